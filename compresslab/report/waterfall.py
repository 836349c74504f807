"""Draws what each stage cost and bought: size, latency and quality, stage by stage. Needs the extra `report`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from compresslab.report import figures, svg
from compresslab.report.lineage import main_path, metric_label, names
from compresslab.report.palette import ACCENT, FAINT, INK, MUTED, POINT
from compresslab.report.table import deployment_latency, reported_quality

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from xml.etree import ElementTree

    import altair

    from compresslab.report.schema import PointResult, Results

Effect = Literal["better", "worse", "unclear"]

_COLOURS: dict[Effect, str] = {"better": POINT, "worse": ACCENT, "unclear": FAINT}
_WIDTH = 300
_ROW = 44.0
_BAR = 12.0
_LONGEST_NAME = 24


@dataclass(frozen=True)
class Step:
    """One stage in one panel: from what value to what value, within which interval, and how it is told."""

    name: str
    value: float
    low: float
    high: float
    before: float | None
    effect: Effect
    told: str


@dataclass(frozen=True)
class Panel:
    """One of the small multiples. `logarithmic` panels show factors as lengths."""

    title: str
    steps: tuple[Step, ...]
    logarithmic: bool

    @property
    def text(self) -> str:
        """The panel in words."""
        return f"{self.title}, stage by stage. " + "; ".join(f"{step.name}: {step.told}" for step in self.steps) + "."


def panels(results: Results) -> list[Panel]:
    """Size, latency and quality along the path to the selected model; without those that were not measured."""
    path, named = main_path(results), names(results)
    found = (
        _panel("size, kB", path, named, _size, logarithmic=True),
        _panel("latency p50, ms", path, named, _latency, logarithmic=True),
        _panel(f"{metric_label(results)}, %", path, named, lambda point: _quality(results, point), logarithmic=False),
    )
    return [panel for panel in found if panel is not None]


def draw(panel: Panel) -> ElementTree.Element:
    """Draws a panel as an <svg> element.

    Raises:
        BadInput: The chart library is not installed.
    """
    svg.require_library()
    return svg.render(_chart(panel), panel.text)


@dataclass(frozen=True)
class _Reading:
    value: float
    low: float
    high: float
    effect: Effect
    told: str


def _panel(
    title: str,
    path: Sequence[PointResult],
    named: dict[str, str],
    read: Callable[[PointResult], _Reading | None],
    *,
    logarithmic: bool,
) -> Panel | None:
    steps: list[Step] = []
    for point in path:
        reading = read(point)
        if reading is None:
            return None
        before = steps[-1].value if steps else None
        name = named[point["id"]]
        steps.append(Step(name, reading.value, reading.low, reading.high, before, reading.effect, reading.told))
    return Panel(title, tuple(steps), logarithmic)


def _size(point: PointResult) -> _Reading:
    size, versus = point["artifact"]["bytes"], point["versus_parent"]
    told = f"{figures.kilobytes(size)} kB"
    if versus is None:
        return _Reading(size / 1000, size / 1000, size / 1000, "unclear", told)
    effect: Effect = "better" if versus["size_ratio"] > 1 else "worse" if versus["size_ratio"] < 1 else "unclear"
    told = f"{told}, {figures.change(versus['size_ratio'], 'smaller', 'larger')}"
    return _Reading(size / 1000, size / 1000, size / 1000, effect, told)


def _latency(point: PointResult) -> _Reading | None:
    latency, versus = deployment_latency(point), point["versus_parent"]
    if latency is None:
        return None
    told = f"{figures.milliseconds(latency['p50'])} ms"
    effect: Effect = "unclear"
    if versus is not None:
        told = f"{told}, {figures.change(versus['speedup']['value'], 'faster', 'slower')}"
        by_verdict: dict[str, Effect] = {"faster": "better", "slower": "worse"}
        effect = by_verdict.get(versus["verdict"], "unclear")
    return _Reading(latency["p50"], latency["p50_low"], latency["p50_high"], effect, told)


def _quality(results: Results, point: PointResult) -> _Reading | None:
    quality, versus = reported_quality(results, point), point["versus_parent"]
    if quality is None:
        return None
    told = f"{figures.percent(quality['value'])} %"
    effect: Effect = "unclear"
    if versus is not None:
        delta = versus["quality_delta"]
        told = f"{told}, {100 * delta['value']:+.2f} points"
        effect = "better" if delta["low"] > 0 else "worse" if delta["high"] < 0 else "unclear"
    return _Reading(100 * quality["value"], 100 * quality["low"], 100 * quality["high"], effect, told)


def _chart(panel: Panel) -> altair.LayerChart:
    import altair as alt

    low, high = _range(panel)
    height = _ROW * len(panel.steps)

    def across(field: str) -> altair.X:
        scale = alt.Scale(type="log" if panel.logarithmic else "linear", domain=[low, high], nice=False, zero=False)
        axis = alt.Axis(values=_few(low, high), format="~g") if panel.logarithmic else alt.Axis(tickCount=4)
        return alt.X(f"{field}:Q", scale=scale, axis=axis, title=panel.title)

    def down(field: str) -> altair.Y:
        return alt.Y(f"{field}:Q", scale=alt.Scale(domain=[height, 0], nice=False), axis=None)

    rows = [_row(index, step, low, high) for index, step in enumerate(panel.steps)]
    every, changes = svg.data(rows), svg.data([row for row in rows if row["changed"]])
    joins = svg.data([{**row, "next": row["bottom"] + _ROW} for row in rows[:-1]])
    intervals = svg.data([row for row in rows if row["low"] != row["high"]])
    colour = alt.Color("colour:N", scale=None)
    layers = [
        joins.mark_rule(color=MUTED, opacity=0.6, strokeDash=[2, 2]).encode(across("value"), down("bottom"), y2="next"),
        changes.mark_rect().encode(
            across("before"), down("top"), colour, alt.Description("tooltip:N"), x2="value", y2="bottom"
        ),
        every.mark_rule(color=INK, strokeWidth=3).encode(across("value"), down("top"), y2="bottom"),
        intervals.mark_rule(color=INK, opacity=0.7).encode(across("low"), down("middle"), x2="high"),
        every.mark_text(align="left", fontSize=12, color=INK).encode(across("left"), down("words"), text="short:N"),
        every.mark_text(align="right", fontSize=11, color=MUTED).encode(across("right"), down("words"), text="told:N"),
    ]
    return alt.LayerChart(layer=layers, width=_WIDTH, height=height)


def _row(index: int, step: Step, low: float, high: float) -> dict[str, Any]:
    bottom = _ROW * (index + 1) - 6
    before = step.value if step.before is None else step.before
    return {
        "short": figures.shortened(step.name, _LONGEST_NAME),
        "told": step.told,
        "tooltip": f"{step.name}: {step.told}",
        "value": step.value,
        "low": step.low,
        "high": step.high,
        "before": before,
        "changed": step.value != before,
        "colour": _COLOURS[step.effect],
        "top": bottom - _BAR,
        "middle": bottom - _BAR / 2,
        "bottom": bottom,
        "words": bottom - _BAR - 11,
        "left": low,
        "right": high,
    }


def _range(panel: Panel) -> tuple[float, float]:
    """The values that are shown, with a little room beside them."""
    low, high = min(step.low for step in panel.steps), max(step.high for step in panel.steps)
    if panel.logarithmic:
        margin = max((high / low) ** 0.04, 1.05)
        return low / margin, high * margin
    room = max(0.05 * (high - low), 0.05)
    return low - room, high + room


def _few(low: float, high: float) -> list[float]:
    """Ticks of a logarithmic axis: powers of ten alone where they suffice."""
    steps = svg.log_ticks(low, high)
    return steps if len(steps) <= 7 else [step for step in steps if f"{step:e}".startswith("1")]
