"""Intervals: of quality over examples, of latency over processes and rounds; 95 % unless another level is asked for.

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
    from collections.abc import Callable, Iterator, Sequence

Floats = npt.NDArray[np.float64]

LEVEL = 0.95
"""How often an interval should hold the truth, where nothing else is said."""

_RESAMPLES = 4000
# Where nearly every example is an outcome of its own, each resample costs as much as the examples.
_RESAMPLES_OF_EXAMPLES = 2000
# Latency quantiles of resamples are read off a histogram of this many equally full bins, linear inside a bin.
_BINS = 4096
# Counts that are drawn at a time: 16 MB of them, and a metric may need some such arrays more.
_CHUNK = 2_000_000


def proportion(successes: int, n: int, level: float = LEVEL) -> Estimate:
    """A share of `n` examples with its Wilson score interval."""
    interval = stats.binomtest(successes, n).proportion_ci(level, method="wilson")
    return Estimate(successes / n, float(interval.low), float(interval.high), n)


def mean_of_proportions(parts: Sequence[tuple[int, int]], level: float = LEVEL) -> Estimate:
    """The mean of shares, each of examples of its own, with the interval that their Wilson intervals make.

    Distances from the shares to the ends of their intervals are added up as errors are: squared. So it has a width
    where each share is 0 or 1, of which a bootstrap knows nothing. Source: Newcombe, "Interval estimation for the
    difference between independent proportions", Statistics in Medicine 17, 1998; for any sum, Zou and Donner,
    "Construction of confidence limits about effect measures: a general approach", Statistics in Medicine 27, 2008.

    Args:
        parts: Of each share, successes and examples.
        level: Of the interval.
    """
    shares = [proportion(successes, n, level) for successes, n in parts]
    value = sum(one.value for one in shares) / len(shares)
    below = np.sqrt(sum((one.value - one.low) ** 2 for one in shares)) / len(shares)
    above = np.sqrt(sum((one.high - one.value) ** 2 for one in shares)) / len(shares)
    return Estimate(value, float(value - below), float(value + above), sum(n for _, n in parts))


def over_examples(
    value: float,
    statistic: Callable[[Floats], Floats],
    counts: Floats,
    n: int,
    level: float = LEVEL,
    resamples: int | None = None,
) -> Estimate:
    """Percentile bootstrap over examples that were sorted into cells of equal outcome.

    Args:
        value: The statistic of the sample itself.
        statistic: From counts [resamples, cells] to values [resamples]; NaN where a resample has none.
        counts: Of each cell, [cells]; they may be smoothed, so that an outcome not seen yet is not held impossible.
        n: Examples in a resample.
        level: Of the interval.
        resamples: How many; None for as many as it deserves.
    """
    if 2 * len(counts) > n and counts.sum() == n:
        drawn = _examples(counts, n, resamples or _RESAMPLES_OF_EXAMPLES)
    else:
        drawn = _multinomial(counts, n, resamples or _RESAMPLES)
    low, high = np.nanquantile(np.concatenate([statistic(draws) for draws in drawn]), _tails(level))
    return Estimate(value, min(float(low), value), max(float(high), value), n)


def _multinomial(counts: Floats, n: int, resamples: int) -> Iterator[Floats]:
    """Counts [some, cells] of resamples; its time goes with the cells."""
    rng = np.random.default_rng(0)
    shares = counts / counts.sum()
    rows = max(1, _CHUNK // len(counts))
    for start in range(0, resamples, rows):
        yield rng.multinomial(n, shares, size=min(rows, resamples - start)).astype(np.float64)


def _examples(counts: Floats, n: int, resamples: int) -> Iterator[Floats]:
    """The same where there are about as many cells as examples: each example is drawn, which is much faster then."""
    rng = np.random.default_rng(0)
    cells = len(counts)
    cell_of = np.repeat(np.arange(cells), counts.astype(np.int64))
    rows = max(1, _CHUNK // n)
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        drawn = cell_of[rng.integers(0, n, (size, n), np.int32)] + cells * np.arange(size)[:, np.newaxis]
        yield np.bincount(drawn.ravel(), minlength=size * cells).reshape(size, cells).astype(np.float64)


def latency_quantile(processes: Sequence[Floats], share: float) -> Estimate:
    """A quantile of all calls; `processes` are arrays [rounds, calls].

    Bootstraps processes, and rounds within each. In simulation, with rounds that vary by 2 %, the interval holds the
    truth in 95 % where processes are alike, and in 85 to 93 % where they vary by 1 to 3 %: quantiles of a handful of
    clusters are lumpy. Compare models by `latency_ratio`, which is not.
    """
    rounds = [len(process) for process in processes]
    value = float(np.quantile(_pooled(processes), share))
    histogram = _Histogram(processes)
    center = np.log(histogram.quantiles(np.ones((1, sum(rounds))), share))
    resampled = np.log(histogram.quantiles(_round_weights(rounds), share)) - center
    within = np.log(histogram.quantiles(_round_weights(rounds, resample_processes=False), share)) - center
    low, high = value * np.exp(_spread(resampled, float(within.var()), rounds) * np.quantile(resampled, _tails(LEVEL)))
    return Estimate(value, min(float(low), value), max(float(high), value))


def latency_ratio(numerator: Sequence[Floats], denominator: Sequence[Floats], share: float = 0.5) -> Estimate:
    """The ratio of a quantile of two models that shared processes and rounds; arrays are [rounds, calls].

    The geometric mean of the ratios of the processes. Bootstraps processes, and rounds within each; both models share
    the draw, which keeps them paired. In simulation, with rounds that vary by 2 %, the interval holds the truth in 93 %
    and more, with 3, 5 or 10 processes that vary by 0 to 3 %, at the median and at the 90th percentile.
    """
    rng = np.random.default_rng(0)
    rounds = [len(process) for process in numerator]
    logs, resampled = [], []
    for ours, theirs in zip(numerator, denominator, strict=True):
        weights = np.concatenate([np.ones((1, len(ours))), _round_weights([len(ours)])])
        one, other = (np.log(_Histogram([process]).quantiles(weights, share)) for process in (ours, theirs))
        logs.append(float(np.log(np.quantile(ours, share) / np.quantile(theirs, share))))
        resampled.append(logs[-1] + (one - other)[1:] - (one - other)[0])
    groups, value = len(rounds), float(np.mean(logs))
    draws = np.array(resampled)
    chosen = rng.integers(0, groups, (_RESAMPLES, groups))
    means = draws[chosen, np.arange(_RESAMPLES)[:, np.newaxis]].mean(axis=1) - value
    within = float(draws.var(axis=1).mean()) / groups
    low, high = np.exp(value + _spread(means, within, rounds) * np.quantile(means, _tails(LEVEL)))
    middle = float(np.exp(value))
    return Estimate(middle, min(float(low), middle), max(float(high), middle))


def _spread(resampled: Floats, within: float, rounds: Sequence[int]) -> float:
    """By what to widen a bootstrap interval, as it rests on a handful of processes.

    A bootstrap of P groups has (P - 1) / P of the variance between them, and knows that variance as badly as P values
    tell it: so Student's t takes the normal's place (the expanded percentile interval of T. Hesterberg, "What teachers
    should know about the bootstrap", 2015). Its degrees of freedom are Satterthwaite's (1946), for the variance between
    processes and that of rounds `within` them.
    """
    groups, drawn = len(rounds), float(resampled.var())
    if groups == 1 or drawn == 0.0:
        return 1.0
    # How processes differ has the noise of their rounds in it already, which a bootstrap of both counts twice.
    observed = (drawn - within) * groups / (groups - 1)
    variance, between = max(observed, within), max(observed - within, 0.0)
    freedom = variance**2 / (between**2 / (groups - 1) + within**2 / max(sum(rounds) - groups, 1))
    tail = _tails(LEVEL)[1]
    return float(np.sqrt(variance / drawn) * stats.t.ppf(tail, freedom) / stats.norm.ppf(tail))


def _tails(level: float) -> tuple[float, float]:
    return (1.0 - level) / 2.0, (1.0 + level) / 2.0


def _round_weights(rounds: Sequence[int], *, resample_processes: bool = True) -> Floats:
    """How often each round is in each resample: [resamples, rounds of all processes]."""
    rng = np.random.default_rng(0)
    groups = len(rounds)
    drawn = np.ones((_RESAMPLES, groups), np.int64)
    if resample_processes:
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
