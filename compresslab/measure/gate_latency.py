"""The gate's latency limits: one figure a process for each, and measuring until they are decided."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from compresslab.measure.measurement import Estimate
from compresslab.measure.sequential import interval, looks, verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import numpy.typing as npt

    from compresslab.measure.budget import Status
    from compresslab.measure.gate_budget import GateBudget, GateGraphLimits

ERROR = 0.01
"""How often a gate may pass what is over its budget, and how often fail what is within, at most."""
_SHOWN_ERROR = 0.025
_SAMPLES_BEYOND = 10


@dataclass(frozen=True)
class LatencyLimit:
    """A limit on a quantile of one model's latency, or of its ratio to the baseline's; on the log scale "at most"."""

    key: str
    limit: float
    share: float
    """Of the quantile."""
    relative: bool
    graph: str | None = None
    """The one that it is of; None for all that the model is called by."""

    @property
    def bound(self) -> float:
        """The limit as the logarithm of milliseconds, or of this model's time over the baseline's."""
        if self.key == "speedup":
            return -math.log(self.limit)
        return math.log1p(self.limit) if self.relative else math.log(self.limit)

    def figure(self, models: Sequence[npt.NDArray[np.int64]]) -> float:
        """What one process says: `models` are nanoseconds of this model and, for a relative limit, of the baseline."""
        # Hyndman and Fan's type 8, for the usual one takes a high quantile of few calls for too low.
        times = [float(np.quantile(model, self.share, method="median_unbiased")) for model in models[:2]]
        return math.log(times[0] / times[1]) if self.relative else math.log(times[0] / 1e6)

    def shown(self, log: Estimate) -> Estimate:
        """An estimate in the budget's own terms."""
        if self.key == "speedup":
            return Estimate(math.exp(-log.value), math.exp(-log.high), math.exp(-log.low))
        turn: Callable[[float], float] = math.expm1 if self.relative else math.exp
        return Estimate(turn(log.value), turn(log.low), turn(log.high))


@dataclass(frozen=True)
class Observation:
    """One process: a figure for each limit, the calls of the model that had fewest, and the seconds it all took."""

    figures: tuple[float, ...]
    calls: int
    seconds: float


@dataclass(frozen=True)
class Decision:
    """What became of each limit. Estimates are in the budget's terms; 95 % hold, whenever one stops."""

    statuses: tuple[Status, ...]
    estimates: tuple[Estimate | None, ...]
    processes: int
    seconds: float
    spreads: tuple[float, ...]
    """By how much a process typically differs from the median one, on the log scale: the noise of this machine."""


def latency_limits(budget: GateBudget) -> tuple[LatencyLimit, ...]:
    """The budget's limits on latency."""
    found = _quantiles(budget, None)
    if budget.speedup is not None:
        found.append(LatencyLimit("speedup", budget.speedup, 0.5, relative=True))
    for graph, its in budget.graphs.items():
        found += _quantiles(its, graph)
    return tuple(found)


def _quantiles(limits: GateBudget | GateGraphLimits, graph: str | None) -> list[LatencyLimit]:
    found = []
    for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99)):
        for key, relative in ((f"{name}_ms", False), (f"{name}_slower", True)):
            limit = getattr(limits, key, None)
            if limit is not None:
                called = key if graph is None else f"{graph}.{key}"
                found.append(LatencyLimit(called, limit, share, relative, graph))
    return found


def decide(
    limits: Sequence[LatencyLimit],
    observations: Iterable[Observation],
    time_limit: float,
    together: int | None = None,
    watch: Callable[[Decision], None] | None = None,
) -> Decision:
    """Takes processes until every limit is decided, one is broken, or the next might not end in time.

    The gate passes only if every limit does, so a wrong pass needs no correction for their number (an
    intersection-union test, Berger 1982); it fails with any, so their wrong fails are shared out by Bonferroni.

    Args:
        limits: What to decide.
        observations: One a process, as they are measured.
        time_limit: Seconds that may pass before a verdict.
        together: How many limits of the gate are uncertain, here and elsewhere; default those here.
        watch: Told of every look.
    """
    errors = (ERROR, ERROR / (together or len(limits)))
    statuses: list[Status] = ["inconclusive"] * len(limits)
    # All looks' intervals hold together, and so does what they have in common.
    bounds = [(-math.inf, math.inf)] * len(limits)
    seen: list[Observation] = []
    schedule, look = looks(), 1
    due = next(schedule)
    seconds = 0.0
    for observation in observations:
        seen.append(observation)
        seconds += observation.seconds
        out_of_time = seconds + seconds / len(seen) > time_limit
        if len(seen) < due and not out_of_time:
            continue
        for index, limit in enumerate(limits):
            if not _enough(limit, seen):
                continue
            figures = [one.figures[index] for one in seen]
            if statuses[index] == "inconclusive":
                statuses[index] = verdict(figures, limit.bound, look, *errors)
            low, high = interval(figures, _SHOWN_ERROR, look)
            bounds[index] = max(low, bounds[index][0]), min(high, bounds[index][1])
        decision = _decision(limits, statuses, seen, bounds, seconds)
        if watch is not None:
            watch(decision)
        if out_of_time or "fail" in statuses or "inconclusive" not in statuses:
            return decision
        due, look = next(schedule), look + 1
    return _decision(limits, statuses, seen, bounds, seconds)


def _enough(limit: LatencyLimit, seen: Sequence[Observation]) -> bool:
    beyond = 1.0 - limit.share
    return (
        sum(one.calls for one in seen) * beyond >= _SAMPLES_BEYOND - 1e-9
        and min(one.calls for one in seen) * beyond >= 1.0 - 1e-9
    )


def _decision(
    limits: Sequence[LatencyLimit],
    statuses: Sequence[Status],
    seen: Sequence[Observation],
    bounds: Sequence[tuple[float, float]],
    seconds: float,
) -> Decision:
    estimates: list[Estimate | None] = []
    spreads = []
    for index, limit in enumerate(limits):
        figures = [one.figures[index] for one in seen]
        middle = float(np.median(figures))
        spreads.append(float(np.median(np.abs(np.array(figures) - middle))))
        low, high = bounds[index]
        log = Estimate(middle, min(low, middle), max(high, middle))
        estimates.append(limit.shown(log) if math.isfinite(low) else None)
    return Decision(tuple(statuses), tuple(estimates), len(seen), seconds, tuple(spreads))
