"""Several graphs as one: the time of a call of each, as whoever needs all of them waits for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compresslab.measure.samples import LatencySamples

if TYPE_CHECKING:
    from collections.abc import Sequence

    from compresslab.measure.bench import BenchPoint


def first_of_each(points: Sequence[BenchPoint]) -> tuple[int, ...]:
    """The place of the first point of every graph, in the order of the points."""
    graphs = [point.graph for point in points]
    return tuple(graphs.index(graph) for graph in dict.fromkeys(graphs))


def together(parts: Sequence[LatencySamples]) -> LatencySamples:
    """The sum of a call of each part: call by call in the order of measuring, as many as the shortest recording has.

    The parts were recorded in the same processes, one after the other, so no call of one belongs to one of another.
    """
    processes = []
    for recorded in zip(*(part.processes for part in parts), strict=True):
        rounds, calls = (min(one.shape[axis] for one in recorded) for axis in (0, 1))
        processes.append(sum(one[:rounds, :calls] for one in recorded))
    return LatencySamples(tuple(processes))
