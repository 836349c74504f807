"""Quality metrics, by name: values from scikit-learn and scipy, and what their intervals need."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from sklearn.metrics import accuracy_score, f1_score

from compresslab.errors import DataError
from compresslab.measure import embedding_metrics as embeddings
from compresslab.measure import own_metric as own
from compresslab.measure import score_metrics as scores
from compresslab.measure.both_directions import by_direction, mean_of_directions, turned
from compresslab.measure.metric_names import BOTH_WAYS, OWN

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Outputs = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Targets = npt.NDArray[Any]
"""int64 class indices or group numbers, or float32 scores; and what a metric reads of each example."""


@dataclass(frozen=True)
class Metric:
    """A metric, more of which is better, and how it follows from counts of what happened on single examples.

    Attributes:
        check: Refuses outputs and targets that do not fit each other or the metric.
        value: From outputs [n, outputs] and targets [n] to the metric.
        outcomes: All that the metric reads of each example, [n, d]; of embeddings an example is a query or a pair.
        of_counts: From distinct outcomes [cells, d] and how often each is in a sample, [samples, cells], to the metric
            of each sample.
        agreement: How far two models' outputs for the same examples are alike, 1 for the same answers: of classes the
            share of equal ones, of scores Pearson's correlation, of embeddings that of the cosines between samples.
        mean_of_shares: Whether it is the mean of the outcomes, each from 0 to 1.
        mean_of_directions: Whether it is the mean of two such means: an outcome is a direction, 0 or 1, and a share.
        resamples: Of a bootstrap; None for as many as an interval deserves.
    """

    check: Callable[[Outputs, Targets], None]
    value: Callable[[Outputs, Targets], float]
    outcomes: Callable[[Outputs, Targets], Targets]
    of_counts: Callable[[Targets, Floats], Floats]
    agreement: Callable[[Outputs, Outputs], float]
    mean_of_shares: bool = False
    mean_of_directions: bool = False
    resamples: int | None = None


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


def _same_class(this: Outputs, other: Outputs) -> float:
    """The share of examples on which both have their largest output in the same place."""
    return float((this.argmax(axis=1) == other.argmax(axis=1)).mean())


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


def _retrieval(of_queries: Callable[[Outputs, Targets], Floats]) -> Metric:
    """The mean over queries."""
    return Metric(
        check=embeddings.check_retrieval,
        value=lambda outputs, targets: float(of_queries(outputs, targets).mean()),
        outcomes=of_queries,
        of_counts=embeddings.mean_of_counts,
        agreement=embeddings.alike,
        mean_of_shares=True,
    )


def _both_ways(of_queries: Callable[[Outputs, Targets], Floats]) -> Metric:
    """The mean of the means over the queries of two directions."""

    def check(outputs: Outputs, targets: Targets) -> None:
        embeddings.check_retrieval(outputs, targets)
        embeddings.check_retrieval(outputs, turned(targets))

    def value(outputs: Outputs, targets: Targets) -> float:
        return float(np.mean([of_queries(outputs, given).mean() for given in (targets, turned(targets))]))

    return Metric(
        check=check,
        value=value,
        outcomes=partial(by_direction, of_queries),
        of_counts=mean_of_directions,
        agreement=embeddings.alike,
        mean_of_directions=True,
    )


_OF_QUERIES = {
    **{f"recall@{cutoff}": partial(embeddings.recalls, cutoff=cutoff) for cutoff in (1, 5, 10)},
    "ndcg@10": partial(embeddings.gains, cutoff=10),
}

METRICS: Mapping[str, Metric] = {
    "accuracy": Metric(check_targets, _accuracy, _correct, _mean, _same_class, mean_of_shares=True),
    "f1_macro": Metric(check_targets, _f1_macro, _target_and_prediction, _f1_macro_of_counts, _same_class),
    "spearman": Metric(
        scores.check_scores, scores.spearman, scores.target_and_answer, scores.spearman_of_counts, scores.correlation
    ),
    "pearson": Metric(
        scores.check_scores, scores.pearson, scores.target_and_answer, scores.pearson_of_counts, scores.correlation
    ),
    "r2": Metric(scores.check_scores, scores.r2, scores.target_and_answer, scores.r2_of_counts, scores.correlation),
    **{name: _retrieval(of_queries) for name, of_queries in _OF_QUERIES.items()},
    **{f"{BOTH_WAYS}{name}": _both_ways(of_queries) for name, of_queries in _OF_QUERIES.items()},
    "similarity": Metric(
        embeddings.check_pairs, embeddings.similarity, embeddings.score_and_cosine, scores.spearman_of_counts,
        embeddings.alike,
    ),
}  # fmt: skip


def metric_of(name: str) -> Metric:
    """A built-in metric by its name, or `python:module:function` of the user's own, which is run when it is asked."""
    if not name.startswith(OWN):
        return METRICS[name]
    return Metric(own.check, partial(own.value_of, name), own.outcomes, own.of_counts(name), _alike,
                  resamples=own.RESAMPLES)  # fmt: skip


def _alike(this: Outputs, other: Outputs) -> float:
    return _same_class(this, other) if this.shape[1] > 1 else scores.correlation(this, other)
