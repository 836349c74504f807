"""Metrics of answers that are numbers: how well they follow the targets, and each other.

A correlation with answers that are all the same is 0, as they tell nothing; with such targets it does not exist. Of
resamples, all is computed from how often each example is in them, [resamples, examples]: copies are ties.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import stats
from sklearn.metrics import r2_score

from compresslab.errors import DataError

if TYPE_CHECKING:
    from compresslab.measure.metrics import Floats, Outputs, Targets

# A variance below this share of the whole sample's is rounding.
_NO_VARIANCE = 1e-10


def check_scores(outputs: Outputs, targets: Targets) -> None:
    """Refuses what no correlation can be computed of.

    Raises:
        DataError: Lengths differ, there are no examples, there is more than one output, or the targets are all equal or
            not finite.
    """
    if len(outputs) != len(targets) or len(targets) == 0:
        raise DataError(
            f"{len(outputs)} outputs for {len(targets)} targets; there must be one for each, and at least one"
        )
    if outputs.shape[1] != 1:
        raise DataError(
            f"the model has {outputs.shape[1]} outputs, but a score is one number; it was made for other data, or the "
            "metric is one of another task"
        )
    if not np.isfinite(targets).all():
        raise DataError("some targets are NaN or infinite; leave those examples out")
    if targets.min() == targets.max():
        raise DataError(
            f"all {len(targets)} targets are {float(targets[0]):g}, so nothing can follow them; give others too"
        )


def pearson(outputs: Outputs, targets: Targets) -> float:
    """Pearson's correlation of outputs [n, 1] with targets [n]."""
    answers, wanted = _both(outputs, targets)
    return 0.0 if np.ptp(answers) == 0 else float(stats.pearsonr(answers, wanted).statistic)


def spearman(outputs: Outputs, targets: Targets) -> float:
    """Spearman's rank correlation of outputs [n, 1] with targets [n]; equal values have their mean rank."""
    answers, wanted = _both(outputs, targets)
    return 0.0 if np.ptp(answers) == 0 else float(stats.spearmanr(answers, wanted).statistic)


def r2(outputs: Outputs, targets: Targets) -> float:
    """The share of the targets' variance that outputs [n, 1] explain; below 0 where their mean would do better."""
    answers, wanted = _both(outputs, targets)
    return float(r2_score(wanted, answers))


def correlation(this: Outputs, other: Outputs) -> float:
    """Pearson's correlation of two models' outputs [n, 1]: their agreement. 1 for the same ones, whatever they are."""
    if np.array_equal(this, other):
        return 1.0
    return 0.0 if np.ptp(other) == 0 else pearson(this, other[:, 0])


def target_and_answer(outputs: Outputs, targets: Targets) -> Floats:
    """All that these metrics read of each example, float64 [n, 2]."""
    answers, wanted = _both(outputs, targets)
    return np.stack([wanted, answers], axis=1)


def pearson_of_counts(outcomes: Targets, counts: Floats) -> Floats:
    """Pearson's correlation in each resample."""
    targets, answers = (_standardised(column) for column in outcomes.T)
    columns = np.stack([targets, answers, targets**2, answers**2, targets * answers], axis=1)
    mean_t, mean_a, square_t, square_a, product = (counts @ columns / counts.sum(axis=1, keepdims=True)).T
    return _ratio(product - mean_t * mean_a, square_t - mean_t**2, square_a - mean_a**2)


def spearman_of_counts(outcomes: Targets, counts: Floats) -> Floats:
    """Spearman's correlation in each resample, every copy having the mean rank of its like."""
    size = counts.sum(axis=1, keepdims=True)
    # The mean of all ranks is the same whatever the ties; divided by the size, variances are near 1/12.
    targets, answers = (_ranks(column, counts) / size - (1.0 + 1.0 / size) / 2.0 for column in outcomes.T)
    weighted = counts / size
    covariance = np.einsum("rn,rn,rn->r", weighted, targets, answers)
    variances = (np.einsum("rn,rn,rn->r", weighted, column, column) for column in (targets, answers))
    return _ratio(covariance, *variances)


def r2_of_counts(outcomes: Targets, counts: Floats) -> Floats:
    """The share of the variance that is explained, in each resample."""
    targets = _standardised(outcomes[:, 0])
    errors = (outcomes[:, 0] - outcomes[:, 1]) / outcomes[:, 0].std()
    columns = np.stack([targets, targets**2, errors**2], axis=1)
    mean, square, error = (counts @ columns / counts.sum(axis=1, keepdims=True)).T
    variance = square - mean**2
    return np.asarray(1.0 - np.divide(error, variance, out=np.full_like(error, np.nan), where=variance > _NO_VARIANCE))


def _both(outputs: Outputs, targets: Targets) -> tuple[Floats, Floats]:
    return outputs[:, 0].astype(np.float64), targets.astype(np.float64)


def _standardised(column: npt.NDArray[np.float64]) -> Floats:
    """Centred and of deviation 1, so that sums of squares lose no digits to a large mean."""
    deviation = column.std()
    return np.asarray((column - column.mean()) / (deviation if deviation > 0 else 1.0))


def _ratio(covariance: Floats, of_targets: Floats, of_answers: Floats) -> Floats:
    """Correlations: 0 where the answers do not vary, NaN where the targets do not."""
    varies = of_answers > _NO_VARIANCE
    scale = np.sqrt(np.where(varies, of_targets.clip(0.0) * of_answers.clip(0.0), 1.0))
    found = np.divide(covariance, scale, out=np.zeros_like(covariance), where=varies & (of_targets > _NO_VARIANCE))
    return np.where(of_targets > _NO_VARIANCE, found.clip(-1.0, 1.0), np.nan)


def _ranks(values: npt.NDArray[np.float64], counts: Floats) -> Floats:
    """Ranks [resamples, n] from 1 of each example in each resample; copies and equal values share their mean rank."""
    order = np.argsort(values, kind="stable")
    begins = np.flatnonzero(np.diff(values[order], prepend=-np.inf))
    group_of = np.empty(len(values), np.int64)
    group_of[order] = np.cumsum(np.isin(np.arange(len(values)), begins)) - 1
    through = np.cumsum(np.add.reduceat(np.take(counts, order, axis=1), begins, axis=1), axis=1)
    before = np.concatenate([np.zeros((len(counts), 1)), through[:, :-1]], axis=1)
    return np.take((before + through + 1.0) / 2.0, group_of, axis=1)
