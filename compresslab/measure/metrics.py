"""Quality metrics, by name: values from scikit-learn, and what their intervals need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from sklearn.metrics import accuracy_score, f1_score

from compresslab.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Outputs = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Metric:
    """A metric, and how it follows from counts of what happened on single examples.

    Attributes:
        value: From outputs [n, classes] and targets [n] to the metric.
        outcomes: All that the metric reads of each example, int64 [n, d].
        of_counts: From distinct outcomes [cells, d] and how often each is in a sample, [samples, cells], to the metric
            of each sample.
        mean_of_binary: Whether it is the share of examples whose outcome, 0 or 1, is 1.
    """

    value: Callable[[Outputs, Ints], float]
    outcomes: Callable[[Outputs, Ints], Ints]
    of_counts: Callable[[Ints, Floats], Floats]
    mean_of_binary: bool


def check_targets(outputs: Outputs, targets: Ints) -> None:
    """Refuses targets that the outputs have no column for.

    Raises:
        DataError: Lengths differ, there are no examples, or a target is not in [0, classes).
    """
    if len(outputs) != len(targets) or len(targets) == 0:
        raise DataError(
            f"{len(outputs)} outputs for {len(targets)} targets; there must be one for each, and at least one"
        )
    if targets.min() < 0 or targets.max() >= outputs.shape[1]:
        raise DataError(
            f"targets run from {targets.min()} to {targets.max()}, but the model has {outputs.shape[1]} outputs; "
            "the model was made for other data, or its head was cut"
        )


def _accuracy(outputs: Outputs, targets: Ints) -> float:
    return float(accuracy_score(targets, outputs.argmax(axis=1)))


def _correct(outputs: Outputs, targets: Ints) -> Ints:
    correct: npt.NDArray[np.bool_] = outputs.argmax(axis=1) == targets
    return correct.astype(np.int64)[:, np.newaxis]


def _mean(outcomes: Ints, counts: Floats) -> Floats:
    return np.asarray(counts @ outcomes[:, 0] / counts.sum(axis=1))


def _f1_macro(outputs: Outputs, targets: Ints) -> float:
    return float(f1_score(targets, outputs.argmax(axis=1), average="macro", zero_division=0.0))


def _target_and_prediction(outputs: Outputs, targets: Ints) -> Ints:
    return np.stack([targets, outputs.argmax(axis=1)], axis=1).astype(np.int64)


def _f1_macro_of_counts(outcomes: Ints, counts: Floats) -> Floats:
    """2 TP / (targets + predictions) averaged over the classes that a sample has, as scikit-learn does."""
    classes = int(outcomes.max()) + 1
    targets, predictions = outcomes[:, 0], outcomes[:, 1]
    hits = _sum_by_class(counts, targets, (targets == predictions).astype(np.float64), classes)
    ones = np.ones(len(outcomes))
    seen = _sum_by_class(counts, targets, ones, classes) + _sum_by_class(counts, predictions, ones, classes)
    scores = np.divide(2.0 * hits, seen, out=np.zeros_like(hits), where=seen > 0)
    return np.asarray(scores.sum(axis=1) / (seen > 0).sum(axis=1))


def _sum_by_class(counts: Floats, class_of: Ints, weight: Floats, classes: int) -> Floats:
    """Sums [samples, classes] of weighted counts [samples, cells]; sparse, as a cell is in one class."""
    cells = np.arange(len(class_of))
    return np.asarray((csr_array((weight, (class_of, cells)), shape=(classes, len(cells))) @ counts.T).T)


METRICS: Mapping[str, Metric] = {
    "accuracy": Metric(_accuracy, _correct, _mean, mean_of_binary=True),
    "f1_macro": Metric(_f1_macro, _target_and_prediction, _f1_macro_of_counts, mean_of_binary=False),
}
