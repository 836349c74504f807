"""Which models are worth having, and which one is handed back. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from compresslab.measure.budget import Status

Interval = tuple[float, float]


@dataclass(frozen=True)
class FrontierPoint:
    """What decides about one model: median latency at the deployment point, size, and quality on validation.

    `p50_interval` and `quality_interval` are what the figures are known to; None is exactly.
    """

    id: str
    p50_ms: float
    bytes: int
    quality: float
    status: Status = "pass"
    p50_interval: Interval | None = None
    quality_interval: Interval | None = None


def frontier(points: Sequence[FrontierPoint]) -> tuple[str, ...]:
    """The ids of the points that none dominates, fastest first.

    A point dominates another when it is as fast, as small and as good, and certainly better in one of them at least:
    the intervals do not overlap. Of points that only noise sets apart all stay; `ties` names them.
    """
    kept = [point for point in points if not any(_dominates(other, point) for other in points)]
    return tuple(point.id for point in sorted(kept, key=_fastest_first))


def ties(points: Sequence[FrontierPoint]) -> tuple[tuple[str, str], ...]:
    """Pairs on the frontier of which the first would dominate the second if its figures were exact.

    Equal points are no tie: nothing sets them apart.
    """
    kept = sorted((point for point in points if point.id in frontier(points)), key=_fastest_first)
    return tuple((one.id, other.id) for one in kept for other in kept if _seems_to_dominate(one, other))


def select(points: Sequence[FrontierPoint], policy: Literal["smallest", "fastest", "most_accurate"]) -> str | None:
    """The id of the best point within budget; ties go to the other two, in the order size, speed, quality.

    If none is within budget for certain, the best of those that may be; None if all are over it.
    """
    for status in ("pass", "inconclusive"):
        allowed = [point for point in points if point.status == status]
        if allowed:
            return min(allowed, key=lambda point: _rank(point, policy)).id
    return None


def _seems_to_dominate(one: FrontierPoint, other: FrontierPoint) -> bool:
    ours, theirs = (one.p50_ms, one.bytes, -one.quality), (other.p50_ms, other.bytes, -other.quality)
    return ours != theirs and all(mine <= its for mine, its in zip(ours, theirs, strict=True))


def _dominates(one: FrontierPoint, other: FrontierPoint) -> bool:
    if not _seems_to_dominate(one, other):
        return False
    certain = (
        _high(one.p50_ms, one.p50_interval) < _low(other.p50_ms, other.p50_interval),
        one.bytes < other.bytes,
        _low(one.quality, one.quality_interval) > _high(other.quality, other.quality_interval),
    )
    return any(certain)


def _low(value: float, interval: Interval | None) -> float:
    return value if interval is None else interval[0]


def _high(value: float, interval: Interval | None) -> float:
    return value if interval is None else interval[1]


def _fastest_first(point: FrontierPoint) -> tuple[float, ...]:
    return point.p50_ms, point.bytes, -point.quality


def _rank(point: FrontierPoint, policy: str) -> tuple[float, ...]:
    size, time, loss = float(point.bytes), point.p50_ms, -point.quality
    if policy == "smallest":
        return size, time, loss
    return (time, size, loss) if policy == "fastest" else (loss, size, time)
