"""What the Pareto picture shows and where: points, frontier line and labels, before any library draws them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import log10, pi, sqrt
from typing import TYPE_CHECKING, Literal

from compresslab.report import figures
from compresslab.report.labels import Box, Label, Spot, place
from compresslab.report.lineage import is_control, names, ordered
from compresslab.report.table import deployment_latency, reported_quality

if TYPE_CHECKING:
    from collections.abc import Sequence

    from compresslab.report.schema import LatencyResult, PointResult, Results

Role = Literal["selected", "on the frontier", "dominated", "reference", "control"]

FONT_SIZE = 12.0

_CHARACTER = 0.53 * FONT_SIZE
"""Mean width of a character in common sans-serif fonts, rounded up."""
_LONGEST_NAME = 30
_LARGEST_AREA = 1500.0
_SMALLEST_AREA = 40.0


@dataclass(frozen=True)
class Canvas:
    """Size in pixels of the plotting area, and the ranges of latency (ms, logarithmic) and quality (per cent)."""

    width: int
    height: int
    fastest: float
    slowest: float
    worst: float
    best: float

    def x(self, latency: float) -> float:
        """The pixel of a latency."""
        return self.width * log10(latency / self.fastest) / log10(self.slowest / self.fastest)

    def y(self, quality: float) -> float:
        """The pixel of a quality in per cent, from the top."""
        return self.height * (self.best - quality) / (self.best - self.worst)

    def latency(self, x: float) -> float:
        """The latency at a pixel."""
        return float(self.fastest * (self.slowest / self.fastest) ** (x / self.width))

    def quality(self, y: float) -> float:
        """The quality at a pixel."""
        return self.best - y / self.height * (self.best - self.worst)


@dataclass(frozen=True)
class Bubble:
    """One point of the picture; quality in per cent, area in square pixels."""

    name: str
    role: Role
    on_frontier: bool
    area: float
    size: int
    latency: LatencyResult
    quality: tuple[float, float, float]

    @property
    def text(self) -> str:
        """Its label."""
        return f"{figures.shortened(self.name, _LONGEST_NAME)}, {figures.kilobytes(self.size)} kB"

    @property
    def tooltip(self) -> str:
        """All that the point says, in words."""
        value, low, high = self.quality
        name = self.name if f"({self.role})" in self.name else f"{self.name} ({self.role})"
        return (
            f"{name}: {figures.milliseconds(self.latency['p50'])} ms, "
            f"{value:.2f} % [{low:.2f}, {high:.2f}], {figures.kilobytes(self.size)} kB"
        )


def bubbles_of(results: Results) -> list[Bubble]:
    """Every point that has both a latency and a quality, in lineage order."""
    named = names(results)
    largest = max(point["artifact"]["bytes"] for point in results["points"])
    found = []
    for point in ordered(results):
        latency, quality = deployment_latency(point), reported_quality(results, point)
        if latency is None or quality is None:
            continue
        size = point["artifact"]["bytes"]
        area = max(_LARGEST_AREA * size / largest, _SMALLEST_AREA)
        share = (100 * quality["value"], 100 * quality["low"], 100 * quality["high"])
        on_frontier = point["id"] in results["frontier"]
        found.append(Bubble(named[point["id"]], _role(results, point), on_frontier, area, size, latency, share))
    return found


def canvas_for(bubbles: Sequence[Bubble], width: int, height: int) -> Canvas:
    """A canvas with room around all points and their intervals."""
    lows = [bubble.quality[1] for bubble in bubbles]
    highs = [bubble.quality[2] for bubble in bubbles]
    room = max(0.12 * (max(highs) - min(lows)), 0.1)
    fastest = min(bubble.latency["p50_low"] for bubble in bubbles)
    slowest = max(bubble.latency["p50_high"] for bubble in bubbles)
    margin = max((slowest / fastest) ** 0.12, 1.2)
    return Canvas(width, height, fastest / margin, slowest * margin, min(lows) - room, max(highs) + room)


def place_labels(bubbles: Sequence[Bubble], canvas: Canvas) -> list[tuple[Bubble, Spot, Label]]:
    """A label for each point: the selected one's is placed first, then those of small points, easily lost."""
    order = sorted(bubbles, key=lambda bubble: (bubble.role != "selected", bubble.area))
    spots = [
        Spot(
            canvas.x(bubble.latency["p50"]),
            canvas.y(bubble.quality[0]),
            sqrt(bubble.area / pi),
            _CHARACTER * len(bubble.text),
            1.3 * FONT_SIZE,
        )
        for bubble in order
    ]
    bars = [
        Box(spot.x - 1, canvas.y(bubble.quality[2]), spot.x + 1, canvas.y(bubble.quality[1]))
        for bubble, spot in zip(order, spots, strict=True)
    ]
    line = [(canvas.x(bubble.latency["p50"]), canvas.y(bubble.quality[0])) for bubble in frontier_line(bubbles)]
    steps = [Box(x, y - 1, next_x, y + 1) for (x, y), (next_x, _) in pairwise(line)]
    return list(zip(order, spots, place(spots, canvas.width, canvas.height, [*bars, *steps]), strict=True))


def frontier_line(bubbles: Sequence[Bubble]) -> list[Bubble]:
    """Those on the frontier that no faster one reaches in quality: what a line may join.

    A model may be on the frontier for its size alone; it lies below this line.
    """
    chosen: list[Bubble] = []
    for bubble in sorted(bubbles, key=lambda bubble: (bubble.latency["p50"], -bubble.quality[0])):
        if bubble.on_frontier and (not chosen or bubble.quality[0] > chosen[-1].quality[0]):
            chosen.append(bubble)
    return chosen


def _role(results: Results, point: PointResult) -> Role:
    if point["id"] == results["selected"]:
        return "selected"
    if point["reference"]:
        return "reference"
    if is_control(point):
        return "control"
    return "on the frontier" if point["id"] in results["frontier"] else "dominated"
