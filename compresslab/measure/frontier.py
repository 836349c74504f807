"""Which of the measured models are worth having, and which one is handed back. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from compresslab.measure.budget import Status


@dataclass(frozen=True)
class FrontierPoint:
    """What decides about one model: median latency at the deployment point, size, and quality on validation."""

    id: str
    p50_ms: float
    bytes: int
    quality: float
    status: Status = "pass"


def frontier(points: Sequence[FrontierPoint]) -> tuple[str, ...]:
    """The ids of the points that none dominates, fastest first.

    A point dominates another when it is as fast, as small and as good, and better in one of them at least. Of equal
    points all stay.
    """
    kept = [point for point in points if not any(_dominates(other, point) for other in points)]
    return tuple(point.id for point in sorted(kept, key=lambda point: (point.p50_ms, point.bytes, -point.quality)))


def select(points: Sequence[FrontierPoint], policy: Literal["smallest", "fastest", "most_accurate"]) -> str | None:
    """The id of the best point within budget; ties go to the other two, in the order size, speed, quality.

    If none is within budget for certain, the best of those that may be; None if all are over it.
    """
    for status in ("pass", "inconclusive"):
        allowed = [point for point in points if point.status == status]
        if allowed:
            return min(allowed, key=lambda point: _rank(point, policy)).id
    return None


def _dominates(one: FrontierPoint, other: FrontierPoint) -> bool:
    ours, theirs = (one.p50_ms, one.bytes, -one.quality), (other.p50_ms, other.bytes, -other.quality)
    return ours != theirs and all(mine <= its for mine, its in zip(ours, theirs, strict=True))


def _rank(point: FrontierPoint, policy: str) -> tuple[float, ...]:
    size, time, loss = float(point.bytes), point.p50_ms, -point.quality
    if policy == "smallest":
        return size, time, loss
    return (time, size, loss) if policy == "fastest" else (loss, size, time)
