"""Draws how much each group of a network can lose: a row a group, darker for more damage. Needs the extra `report`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

from compresslab.report import figures, svg
from compresslab.report.palette import FAINT, INK, POINT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from xml.etree import ElementTree

    import altair

_WIDTH = 420
_ROW = 20
_LONGEST_NAME = 40
_DARKEST_LABEL = 0.55  # opacity from which a figure upon it is not readable


class LevelResult(TypedDict):
    """A share of the group that was removed, and how much worse the network was then."""

    removed: float
    damage: float


class GroupResult(TypedDict):
    """What was measured of one group."""

    name: str
    units: int
    channels: int
    levels: list[LevelResult]


class SensitivityResult(TypedDict):
    """What `Sensitivity.to_plain` gives."""

    whole: float
    groups: list[GroupResult]


def draw(result: SensitivityResult, measure: str) -> ElementTree.Element:
    """Draws the groups in the network's order, top to bottom, and what is removed of each from left to right.

    Groups that have one width only, so that nothing could be judged, are left out.

    Args:
        result: What was measured, of one group at least.
        measure: What the damage is, such as `KL to the teacher`.

    Raises:
        BadInput: The chart library is not installed.
    """
    svg.require_library()
    return svg.render(_chart(result, measure), describe(result, measure))


def describe(result: SensitivityResult, measure: str) -> str:
    """The picture in words: what is most and least sensitive at half the units, or what comes nearest to it."""
    at_half = sorted(
        ((_near_half(group), group["name"]) for group in _judged(result)), key=lambda one: one[0]["damage"]
    )
    least, most = at_half[0], at_half[-1]
    return (
        f"{measure}, by what is removed of each of {len(at_half)} groups alone. Most sensitive: {_told(*most)}. "
        f"Least sensitive: {_told(*least)}."
    )


def _judged(result: SensitivityResult) -> list[GroupResult]:
    return [group for group in result["groups"] if group["levels"]]


def _near_half(group: GroupResult) -> LevelResult:
    return min(group["levels"], key=lambda level: abs(level["removed"] - 0.5))


def _told(level: LevelResult, name: str) -> str:
    return f"{name}, {figures.significant(level['damage'])} at {100 * level['removed']:.0f} % removed"


def _chart(result: SensitivityResult, measure: str) -> altair.LayerChart:
    import altair as alt

    names = [group["name"] for group in _judged(result)]
    rows = _rows(result, measure)
    across = alt.X("low:Q", scale=alt.Scale(domain=[0, 100], nice=False),
                   axis=alt.Axis(tickCount=5, grid=False, title=f"removed, % (darker: more {measure})"))  # fmt: skip
    down = alt.Y("group:N", sort=names, title=None,
                 axis=alt.Axis(labelLimit=300, labelExpr=_shortened(names), ticks=False, domain=False))  # fmt: skip
    every = svg.data(rows)
    readable = svg.data([row for row in rows if row["opacity"] < _DARKEST_LABEL])
    layers = [
        every.mark_rect(color=POINT, stroke=FAINT, strokeWidth=0.5).encode(
            across, down, alt.Opacity("opacity:Q", scale=None), alt.Description("tooltip:N"), x2="high"
        ),
        readable.mark_text(fontSize=9, color=INK).encode(
            alt.X("middle:Q", scale=alt.Scale(domain=[0, 100], nice=False)), down, text="label:N"
        ),
    ]
    return alt.LayerChart(layer=layers, width=_WIDTH, height=_ROW * len(names))


def _rows(result: SensitivityResult, measure: str) -> list[dict[str, Any]]:
    """A cell a level: from the level before it to itself."""
    most = max((level["damage"] for group in result["groups"] for level in group["levels"]), default=0.0)
    rows = []
    for group in result["groups"]:
        before = 0.0
        for level in group["levels"]:
            # By the root, or one group that breaks the network would leave all others white.
            share = max(level["damage"], 0.0) / most if most > 0 else 0.0
            rows.append({
                "group": group["name"],
                "low": 100 * before,
                "high": 100 * level["removed"],
                "middle": 50 * (before + level["removed"]),
                "opacity": share**0.5,
                "label": f"{level['damage']:.2g}",
                "tooltip": f"{group['name']}: {100 * level['removed']:.0f} % removed, {measure} "
                f"{level['damage']:+.3g}",
            })  # fmt: skip
            before = level["removed"]
    return rows


def _shortened(names: Sequence[str]) -> str:
    """The labels of the axis: the ends of long names, which tell layers apart."""
    long = {name: f"…{name[-_LONGEST_NAME:]}" for name in names if len(name) > _LONGEST_NAME}
    choices = "".join(f"datum.label == {name!r} ? {short!r} : " for name, short in long.items())
    return f"{choices}datum.label"
