"""How a server should run a graph, by what was measured of it: threads, instances, batching, warm-up."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from compresslab.measure.measurement import Latency

NEAR = 0.95
"""Throughput within this share of the best is as good: more examples at once would only add latency."""
_WARM_MS = 200.0
_WARM_CALLS = 100


@dataclass(frozen=True)
class ServingPlan:
    """Settings of one served graph.

    Attributes:
        threads: Inside an operator, of one instance.
        instances: Calls that run at the same time.
        batch: The batch that the server should gather; 1 where gathering does not pay, or was not measured.
        delay_us: How long a request may wait for others, in microseconds.
        max_batch: Examples that one request may have.
        warm_up: (batch, calls) to run before the first request is taken.
        why: One sentence a choice, with the figures behind it.
    """

    threads: int
    instances: int
    batch: int
    delay_us: int
    max_batch: int
    warm_up: tuple[tuple[int, int], ...]
    why: tuple[str, ...]


def plan(graph: str, latencies: Sequence[Latency], cores: int, max_batch: int) -> ServingPlan:
    """The plan that the medians of a graph speak for.

    The best point is the one with the most examples a second when every core is in use, `cores // threads` instances
    side by side. Of those within 5 % of it the one with the smallest batch is taken, then with the fewest threads. A
    request waits for others no longer than one example alone takes.

    Args:
        graph: Its name in the latencies.
        latencies: Whatever was measured; other graphs' are left out. May be empty.
        cores: Of the machine that serves.
        max_batch: The least that one request may have; the best batch, where that is more.
    """
    points = [latency for latency in latencies if latency.graph == graph and latency.threads <= cores]
    if not points:
        nothing = "nothing was measured of this graph, so it runs as it would alone: one thread, no batching"
        return ServingPlan(1, cores, 1, 0, max_batch, ((1, 1),), (nothing,))
    rates = {(point.batch, point.threads): _rate(point, cores) for point in points}
    most = max(rates.values())
    batch, threads = min(key for key, rate in rates.items() if rate >= NEAR * most)
    chosen = next(point for point in points if (point.batch, point.threads) == (batch, threads))
    alone = [point.p50 for point in points if (point.batch, point.threads) == (1, threads)]
    wait_ms = (alone[0] if alone else chosen.p50 / batch) if batch > 1 else 0.0
    instances = max(1, cores // threads)
    why = [
        f"batch {batch} on {threads} thread{'s' if threads > 1 else ''}, {instances} side by side on {cores} cores: "
        f"{rates[batch, threads]:,.0f} examples a second by the measured median of {chosen.p50:.3g} ms; "
        f"the best of {len(rates)} measured: {most:,.0f}"
    ]
    sizes = sorted({point.batch for point in points})
    if len(sizes) == 1:
        why.append(f"only batch {sizes[0]} was measured, so nothing is known of gathering requests")
    elif batch > 1:
        why.append(f"a request waits for others at most {wait_ms:.3g} ms, which is what one example takes alone")
    else:
        why.append("gathering requests does not pay: no larger batch gives 5 % more")
    warm = tuple((size, _calls(points, size, threads)) for size in sorted({1, batch}))
    return ServingPlan(threads, instances, batch, round(1000 * wait_ms), max(max_batch, batch), warm, tuple(why))


def _rate(point: Latency, cores: int) -> float:
    """Examples a second."""
    return 1000.0 * point.batch * max(1, cores // point.threads) / point.p50


def _calls(points: Sequence[Latency], batch: int, threads: int) -> int:
    """As many calls as take a fifth of a second: caches, allocators and clocks have settled by then."""
    known = [point.p50 for point in points if (point.batch, point.threads) == (batch, threads)]
    return min(_WARM_CALLS, max(1, ceil(_WARM_MS / known[0]))) if known else 1
