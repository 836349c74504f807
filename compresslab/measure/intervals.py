"""95 % intervals: of quality over examples, of latency over processes and rounds.

The bootstraps draw *counts* instead of copies: how often each distinct outcome, or each round of calls, is in the
resample. It is the same distribution, and 10,000 examples cost what their few distinct outcomes cost. Seeds are fixed:
the same data gives the same interval.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import stats

from compresslab.measure.measurement import Estimate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Floats = npt.NDArray[np.float64]

_LEVEL = 0.95
_TAILS = ((1.0 - _LEVEL) / 2.0, (1.0 + _LEVEL) / 2.0)
_RESAMPLES = 4000
# Latency quantiles of resamples are read off a histogram of this many equally full bins, linear inside a bin.
_BINS = 4096
# Counts that are drawn at a time: 64 MB of them.
_CHUNK = 8_000_000


def proportion(successes: int, n: int) -> Estimate:
    """A share of `n` examples with its Wilson score interval."""
    interval = stats.binomtest(successes, n).proportion_ci(_LEVEL, method="wilson")
    return Estimate(successes / n, float(interval.low), float(interval.high), n)


def over_examples(value: float, statistic: Callable[[Floats], Floats], counts: Floats, n: int) -> Estimate:
    """Percentile bootstrap over examples that were sorted into cells of equal outcome.

    Args:
        value: The statistic of the sample itself.
        statistic: From counts [resamples, cells] to values [resamples]; NaN where a resample has none.
        counts: Of each cell, [cells]; they may be smoothed, so that an outcome not seen yet is not held impossible.
        n: Examples in a resample.
    """
    rng = np.random.default_rng(0)
    shares = counts / counts.sum()
    rows = max(1, _CHUNK // len(counts))
    parts = [
        statistic(rng.multinomial(n, shares, size=min(rows, _RESAMPLES - start)).astype(np.float64))
        for start in range(0, _RESAMPLES, rows)
    ]
    low, high = np.nanquantile(np.concatenate(parts), _TAILS)
    return Estimate(value, min(float(low), value), max(float(high), value), n)


def latency_quantile(processes: Sequence[Floats], share: float) -> Estimate:
    """A quantile of all calls; `processes` are arrays [rounds, calls]."""
    return _hierarchical([processes], share, lambda quantiles: quantiles[0])


def latency_ratio(numerator: Sequence[Floats], denominator: Sequence[Floats], share: float = 0.5) -> Estimate:
    """The ratio of a quantile of two models that shared processes and rounds; arrays are [rounds, calls]."""
    return _hierarchical([numerator, denominator], share, lambda quantiles: quantiles[0] / quantiles[1])


def _hierarchical(
    models: Sequence[Sequence[Floats]], share: float, statistic: Callable[[Sequence[Floats]], Floats]
) -> Estimate:
    """Bootstraps processes, and rounds within each; all models share the draw, which keeps them paired.

    A bootstrap of P groups has (P - 1) / P of the variance between them, so the resamples are spread about the value by
    sqrt(P / (P - 1)), on the log scale (T. Hesterberg, "What teachers should know about the bootstrap", 2015). In
    simulation, with rounds that vary by 2 %, the interval holds the truth in 93 % and more where processes vary by up
    to 1 %; where they vary by 3 %, in 85 % with three processes, 90 % with five and 92 % with ten.
    """
    rounds = [len(process) for process in models[0]]
    weights = _round_weights(rounds)
    everything = np.ones((1, sum(rounds)))
    value = statistic([np.array([np.quantile(_pooled(model), share)]) for model in models])
    histograms = [_Histogram(model) for model in models]
    center = np.log(statistic([histogram.quantiles(everything, share) for histogram in histograms]))
    resampled = np.log(statistic([histogram.quantiles(weights, share) for histogram in histograms]))
    groups = len(rounds)
    spread = np.sqrt(groups / (groups - 1)) if groups > 1 else 1.0
    low, high = value[0] * np.exp(spread * (np.quantile(resampled, _TAILS) - center[0]))
    return Estimate(float(value[0]), min(float(low), float(value[0])), max(float(high), float(value[0])))


def _round_weights(rounds: Sequence[int]) -> Floats:
    """How often each round is in each resample: [resamples, rounds of all processes]."""
    rng = np.random.default_rng(0)
    groups = len(rounds)
    drawn = rng.multinomial(groups, [1.0 / groups] * groups, size=_RESAMPLES)
    parts = [
        rng.multinomial(times * count, [1.0 / count] * count) for times, count in zip(drawn.T, rounds, strict=True)
    ]
    return np.concatenate(parts, axis=1).astype(np.float64)


class _Histogram:
    """How many calls of each round lie at or below each of up to `_BINS` equally full bins."""

    def __init__(self, processes: Sequence[Floats]) -> None:
        values = _pooled(processes)
        bins = min(len(values), _BINS)
        order = np.argsort(values, kind="stable")
        bin_of = np.empty(len(values), np.int64)
        bin_of[order] = np.arange(len(values)) * bins // len(values)
        rounds = sum(len(process) for process in processes)
        calls = np.concatenate([np.full(len(process), process.shape[1]) for process in processes])
        cell_of = bin_of * rounds + np.repeat(np.arange(rounds), calls)
        counts = np.bincount(cell_of, minlength=bins * rounds).reshape(bins, rounds)
        self.at_or_below = np.cumsum(counts, axis=0).astype(np.float64)
        firsts = np.searchsorted(bin_of[order], np.arange(bins))
        self.edges = np.append(values[order[firsts]], values.max())

    def quantiles(self, weights: Floats, share: float) -> Floats:
        """The quantile of each row of `weights` [resamples, rounds], each row by bisection."""

        def count(bins: npt.NDArray[np.int64]) -> Floats:
            return np.asarray(np.einsum("br,br->b", weights, self.at_or_below[bins]))

        low = np.zeros(len(weights), np.int64)
        high = np.full(len(weights), len(self.at_or_below) - 1)
        target = share * count(high)
        for _ in range(len(self.at_or_below).bit_length()):
            middle = (low + high) // 2
            beyond = count(middle) < target
            low, high = np.where(beyond, middle + 1, low), np.where(beyond, high, middle)
        before = np.where(low > 0, count(np.maximum(low - 1, 0)), 0.0)
        inside = (target - before) / (count(low) - before)
        return np.asarray(self.edges[low] + (self.edges[low + 1] - self.edges[low]) * inside)


def _pooled(processes: Sequence[Floats]) -> Floats:
    return np.concatenate([process.ravel() for process in processes]).astype(np.float64)
