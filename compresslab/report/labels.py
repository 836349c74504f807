"""Puts the labels of a scatter plot where they hide neither points nor each other."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

_GAP = 5.0
_MARGIN = 2.0
_DIRECTIONS = ((1.0, 0.0), (-1.0, 0.0), (0.0, -1.0), (0.0, 1.0), (0.8, -0.6), (0.8, 0.6), (-0.8, -0.6), (-0.8, 0.6))
_DISTANCES = (0.0, 10.0, 20.0, 32.0, 46.0, 62.0, 80.0, 100.0)


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels, y downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: Box) -> float:
        """The common area in square pixels."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(width, 0.0) * max(height, 0.0)

    def holds(self, x: float, y: float) -> bool:
        """Whether a point lies inside."""
        return self.left <= x <= self.right and self.top <= y <= self.bottom

    def outside(self, width: float, height: float) -> float:
        """By how many pixels the box leaves a canvas of this size."""
        over = (-self.left, -self.top, self.right - width, self.bottom - height)
        return sum(max(part, 0.0) for part in over)


@dataclass(frozen=True)
class Spot:
    """A point with a circle of `radius` around it, and the size of the label it wants; pixels."""

    x: float
    y: float
    radius: float
    width: float
    height: float


@dataclass(frozen=True)
class Label:
    """Where a label goes, and how far from the nearest place; `leader` tells whether a line should lead to it."""

    box: Box
    distance: float
    align: Literal["left", "center", "right"]
    """Which part of the text is at the box's own: the one next to the point, as text may be narrower than thought."""

    @property
    def x(self) -> float:
        """Where the text is anchored."""
        middle = (self.box.left + self.box.right) / 2
        return {"left": self.box.left, "center": middle, "right": self.box.right}[self.align]

    @property
    def leader(self) -> bool:
        """Whether it is so far off that it could be taken for another point's."""
        return self.distance > _DISTANCES[1]


def place(spots: Sequence[Spot], width: float, height: float, obstacles: Sequence[Box] = ()) -> list[Label]:
    """Places one label a spot, greedily, in the order given: the first gets the best place.

    Each takes the nearest free place beside its point. Where there is none, it takes the one that hides least.

    Args:
        spots: The points, the most important first.
        width: Of the canvas, in pixels; labels stay inside it where they can.
        height: Of the canvas, in pixels.
        obstacles: What else should not be covered, such as error bars.
    """
    circles = [_around(spot.x, spot.y, 2 * spot.radius, 2 * spot.radius) for spot in spots]
    placed: list[Label] = []
    for spot in spots:
        taken = [*(label.box for label in placed), *circles]

        def cost(label: Label, spot: Spot = spot, taken: Sequence[Box] = taken) -> float:
            covered = sum(label.box.overlap(box) for box in taken)
            crossed = sum(label.box.overlap(box) for box in obstacles)
            # A thin bar behind a label is a smaller evil than a label far away.
            outside = label.box.outside(width, height)
            return covered + 0.2 * crossed + 0.4 * label.distance + 100.0 * outside + _hidden(label, spot, placed)

        placed.append(min(_candidates(spot), key=cost))
    return placed


def _candidates(spot: Spot) -> list[Label]:
    found = []
    for distance, (across, down) in product(_DISTANCES, _DIRECTIONS):
        reach = spot.radius + _GAP + distance
        x = spot.x + across * (reach + spot.width / 2)
        y = spot.y + down * (reach + spot.height / 2)
        box = _around(x, y, spot.width + _MARGIN, spot.height + _MARGIN)
        found.append(Label(box, distance, "center" if across == 0 else "left" if across > 0 else "right"))
    return found


def _hidden(label: Label, spot: Spot, placed: Sequence[Label]) -> float:
    """The price of a leader line that runs behind labels."""
    if not label.leader:
        return 0.0
    end_x, end_y = nearest_edge(label, spot)
    steps = [step / 10 for step in range(1, 11)]
    line = [(spot.x + step * (end_x - spot.x), spot.y + step * (end_y - spot.y)) for step in steps]
    return 25.0 * sum(any(other.box.holds(x, y) for x, y in line) for other in placed)


def _around(x: float, y: float, width: float, height: float) -> Box:
    return Box(x - width / 2, y - height / 2, x + width / 2, y + height / 2)


def nearest_edge(label: Label, spot: Spot) -> tuple[float, float]:
    """Where a leader line from the spot meets its label's box."""
    box = label.box
    return min(max(spot.x, box.left), box.right), min(max(spot.y, box.top), box.bottom)
