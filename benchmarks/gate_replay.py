"""Gates replayed from recorded processes, drawn whole and with replacement, and what others would have said."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.gate_recordings import BUDGET, Process
from compresslab.measure.gate import TIME_LIMIT
from compresslab.measure.gate_latency import Observation, decide, latency_limits
from compresslab.measure.intervals import latency_ratio

LIMITS = latency_limits(BUDGET)
FIXED = 0.10
"""The threshold of the usual jobs, on one run of each."""


def observations(recorded: Sequence[Process]) -> list[Observation]:
    """What each recorded process says to the gate."""
    return [
        Observation(
            tuple(limit.figure([one.variant, one.base]) for limit in LIMITS),
            min(one.variant.size, one.base.size),
            one.seconds,
        )
        for one in recorded
    ]


def truth(seen: Sequence[Observation]) -> list[float]:
    """The slow-down at each limit's quantile, in the median of all processes: those from which replays are drawn."""
    return [math.expm1(float(np.median([one.figures[index] for one in seen]))) for index in range(len(LIMITS))]


def replay(seen: Sequence[Observation], gates: int, seed: int) -> dict[str, Any]:
    """So many gates: shares of the verdicts, seconds, and how many intervals hold the truth."""
    rng = np.random.default_rng(seed)
    true = truth(seen)

    def drawn() -> Iterator[Observation]:
        while True:
            for index in rng.integers(0, len(seen), 64):
                yield seen[index]

    verdicts = {"pass": 0, "fail": 0, "inconclusive": 0}
    seconds, processes = [], []
    held = [0] * len(LIMITS)
    for _ in range(gates):
        decision = decide(LIMITS, drawn(), TIME_LIMIT)
        verdicts[_overall(decision.statuses)] += 1
        seconds.append(decision.seconds)
        processes.append(decision.processes)
        for index, estimate in enumerate(decision.estimates):
            held[index] += estimate is not None and estimate.low <= true[index] <= estimate.high
    return {
        **verdicts,
        "gates": gates,
        "median_seconds": float(np.median(seconds)),
        "p95_seconds": float(np.quantile(seconds, 0.95)),
        "median_processes": float(np.median(processes)),
        "intervals_hold": {limit.key: count for limit, count in zip(LIMITS, held, strict=True)},
    }


def _overall(statuses: Sequence[str]) -> str:
    return "fail" if "fail" in statuses else "inconclusive" if "inconclusive" in statuses else "pass"


def others(recorded: Sequence[Process], gates: int, seed: int) -> dict[str, int]:
    """How often others would fail: two runs, one of each model, each a whole process and not the same one.

    `fixed` compares medians with a threshold of 10 %. `pytest_benchmark` is `--benchmark-compare-fail=mean:10%`:
    `PercentageRegressionCheck` in pytest_benchmark/utils.py fails where current / compared * 100 - 100 > 10.
    """
    rng = np.random.default_rng(seed)
    pairs = [rng.choice(len(recorded), 2, replace=False) for _ in range(gates)]
    medians = [(np.median(one.variant), np.median(one.base)) for one in recorded]
    means = [(one.variant.mean(), one.base.mean()) for one in recorded]
    return {
        "fixed": sum(bool(medians[new][0] / medians[old][1] > 1.0 + FIXED) for new, old in pairs),
        "pytest_benchmark": sum(bool(means[new][0] / means[old][1] * 100 - 100 > 100 * FIXED) for new, old in pairs),
    }


def bootstrap_coverage(recorded: Sequence[Process], draws: int, size: int, seed: int) -> dict[str, int]:
    """How many 95 % intervals of `bench` and `compare`, each of `size` processes, hold the ratio over all."""
    rng = np.random.default_rng(seed)
    chosen = [rng.integers(0, len(recorded), size) for _ in range(draws)]
    held = {}
    with ProcessPoolExecutor(2) as pool:
        for limit in LIMITS:
            true = _over_all(recorded, limit.share)
            found = pool.map(partial(_holds, recorded, limit.share, true), chosen)
            held[limit.key] = sum(found)
    return held


def _over_all(recorded: Sequence[Process], share: float) -> float:
    """What `latency_ratio` estimates: the geometric mean of the processes' ratios."""
    logs = [np.log(np.quantile(one.variant, share) / np.quantile(one.base, share)) for one in recorded]
    return float(np.exp(np.mean(logs)))


def _holds(recorded: Sequence[Process], share: float, true: float, rows: np.ndarray) -> bool:
    ours, base = ([getattr(recorded[row], key) / 1e6 for row in rows] for key in ("variant", "base"))
    estimate = latency_ratio(ours, base, share)
    return bool(estimate.low <= true <= estimate.high)


def exact(successes: int, n: int) -> list[float]:
    """A share with its exact (Clopper-Pearson) 95 % interval."""
    found = stats.binomtest(successes, n).proportion_ci(0.95, method="exact")
    return [successes / n, float(found.low), float(found.high)]
