"""A metric of one model, or of two on the same examples, with its interval."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from compresslab.measure.intervals import LEVEL, Floats, mean_of_proportions, over_examples, proportion
from compresslab.measure.metrics import Ints, Metric, Outputs, Targets

if TYPE_CHECKING:
    from collections.abc import Callable

    from compresslab.measure.measurement import Estimate

# Half an example in each cell of a paired 2x2 table: two models that agree on all of a sample may still differ on the
# next example, and with it the interval of their difference keeps its 95 % (Agresti and Min 2005). Shares between 0 and
# 1 get the same corners.
_PSEUDO_COUNT = 0.5
_BINARY_PAIRS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.int64)
# The same of either direction: of outcomes of two models, each a direction and a share.
_DIRECTED_PAIRS = np.array([[way, this, way, other] for way in (0, 1) for this, other in _BINARY_PAIRS], np.int64)


def quality(metric: Metric, outputs: Outputs, targets: Targets, level: float = LEVEL) -> Estimate:
    """The metric of outputs [n, outputs] against targets [n], with its interval of that level.

    Raises:
        DataError: The targets do not fit the outputs.
    """
    metric.check(outputs, targets)
    outcomes = metric.outcomes(outputs, targets)
    if metric.mean_of_shares and _binary(outcomes):
        return proportion(int(outcomes.sum()), len(outcomes), level)
    if metric.mean_of_directions and _binary(outcomes):
        found = [outcomes[outcomes[:, 0] == direction, 1] for direction in (0, 1)]
        return mean_of_proportions([(int(one.sum()), len(one)) for one in found], level)
    cells, counts = np.unique(outcomes, axis=0, return_counts=True)
    value = metric.value(outputs, targets)
    shares = counts.astype(np.float64)
    return over_examples(
        value, lambda draws: metric.of_counts(cells, draws), shares, len(outcomes), level, metric.resamples
    )


def quality_delta(metric: Metric, this: Outputs, other: Outputs, targets: Targets, level: float = LEVEL) -> Estimate:
    """The metric of `this` minus that of `other`, paired: both saw the same examples."""
    value = metric.value(this, targets) - metric.value(other, targets)
    return _paired(metric, this, other, targets, value, np.subtract, level)


def mcnemar(this: Outputs, other: Outputs, targets: Ints) -> tuple[int, int, float]:
    """McNemar's exact test of whether two models are right equally often on the same examples.

    Returns:
        How many only `this` has right, how many only `other`, and the two-sided p-value.
    """
    ours, theirs = this.argmax(axis=1) == targets, other.argmax(axis=1) == targets
    only_this, only_other = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    if only_this + only_other == 0:
        return 0, 0, 1.0
    return only_this, only_other, float(stats.binomtest(only_this, only_this + only_other).pvalue)


def quality_ratio(metric: Metric, this: Outputs, other: Outputs, targets: Targets) -> Estimate | None:
    """The metric of `this` over that of `other`, paired; None where the other's is not above 0."""
    reference = metric.value(other, targets)
    if reference <= 0.0:
        return None
    return _paired(metric, this, other, targets, metric.value(this, targets) / reference, _ratio)


def _binary(outcomes: Targets) -> bool:
    return bool(np.isin(outcomes, (0, 1)).all())


def _corners(metric: Metric) -> Ints | None:
    """What two models may make of an example that is right or wrong; None of metrics that do not ask this."""
    if metric.mean_of_shares:
        return _BINARY_PAIRS
    return _DIRECTED_PAIRS if metric.mean_of_directions else None


def _ratio(this: Floats, other: Floats) -> Floats:
    return np.divide(this, other, out=np.full_like(this, np.nan), where=other > 0)


def _paired(
    metric: Metric,
    this: Outputs,
    other: Outputs,
    targets: Targets,
    value: float,
    compare: Callable[[Floats, Floats], Floats],
    level: float = LEVEL,
) -> Estimate:
    metric.check(this, targets)
    metric.check(other, targets)
    outcomes = np.concatenate([metric.outcomes(this, targets), metric.outcomes(other, targets)], axis=1)
    corners = _corners(metric)
    if corners is not None:
        cells, found = np.unique(np.concatenate([corners, outcomes]), axis=0, return_counts=True)
        counts = found.astype(np.float64)
        counts[np.isin(cells, (0, 1)).all(axis=1)] -= 1.0 - _PSEUDO_COUNT
    else:
        cells, found = np.unique(outcomes, axis=0, return_counts=True)
        counts = found.astype(np.float64)
    width = cells.shape[1] // 2

    def statistic(draws: Floats) -> Floats:
        return compare(metric.of_counts(cells[:, :width], draws), metric.of_counts(cells[:, width:], draws))

    return over_examples(value, statistic, counts, len(outcomes), level, metric.resamples)
