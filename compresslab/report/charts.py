"""Draws the Pareto picture: latency against quality, the area of a point its file size. Needs the extra `report`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from compresslab.errors import BadInput
from compresslab.report import svg
from compresslab.report.headline import picture_text
from compresslab.report.labels import nearest_edge
from compresslab.report.lineage import metric_label, reported_split
from compresslab.report.palette import ACCENT, CONTROL, FAINT, INK, MUTED, PAPER, POINT, REFERENCE
from compresslab.report.pareto import (
    FONT_SIZE,
    Bubble,
    Canvas,
    Role,
    bubbles_of,
    canvas_for,
    frontier_line,
    place_labels,
)
from compresslab.report.writing import write_whole

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from xml.etree import ElementTree

    import altair

    from compresslab.report.schema import Results

_ROLES: dict[Role, tuple[str, str, str]] = {  # fill, stroke and shape
    "selected": (ACCENT, ACCENT, "circle"),
    "on the frontier": (POINT, POINT, "circle"),
    "dominated": (FAINT, MUTED, "circle"),
    "reference": (PAPER, REFERENCE, "circle"),
    "control": (PAPER, CONTROL, "triangle-up"),
}
_NARROW = 500


def pareto(results: Results, width: int = 720, height: int = 400) -> ElementTree.Element | None:
    """Draws the picture as an <svg> element; None where no point has both latency and quality.

    Args:
        results: The run.
        width: Of the plotting area, in pixels; the axes come on top.
        height: Of the plotting area, in pixels.

    Raises:
        BadInput: The chart library is not installed.
    """
    svg.require_library()
    bubbles = bubbles_of(results)
    if not bubbles:
        return None
    canvas = canvas_for(bubbles, width, height)
    return svg.render(_chart(bubbles, canvas, _titles(results, bubbles[0])), picture_text(results))


def write_chart(results: Results, path: Path) -> Path:
    """Writes the Pareto picture as a file of its own, on white, and returns its path.

    Args:
        results: The run.
        path: Where to; its ending, `.svg` or `.png`, is the format.

    Raises:
        BadInput: Another ending, nothing to draw, or the chart library is not installed.
        StoreError: The file cannot be written.
    """
    if path.suffix not in (".svg", ".png"):
        raise BadInput(f"{path}: a picture is written as .svg or .png, but got `{path.suffix}`; change the ending")
    picture = pareto(results)
    if picture is None:
        raise BadInput(f"{path}: there is nothing to draw: no point of the run has both a latency and a quality")
    text = svg.standalone(picture)
    return write_whole(path, text if path.suffix == ".svg" else svg.to_png(text))


def _titles(results: Results, first: Bubble) -> tuple[str, str]:
    latency = first.latency
    threads = f"{latency['threads']} thread{'s' if latency['threads'] != 1 else ''}"
    quality = f"{reported_split(results)} {metric_label(results)}, %"
    return f"latency p50, ms (batch {latency['batch']}, {threads})", quality


def _rows(bubbles: Sequence[Bubble], canvas: Canvas) -> list[dict[str, Any]]:
    """What is drawn of each point: latency is `x`, quality `y`. Large ones come first, for small ones to lie on top."""
    rows = []
    for bubble, spot, label in place_labels(bubbles, canvas):
        leader_x, leader_y = nearest_edge(label, spot)
        rows.append(
            {
                "x": bubble.latency["p50"],
                "x_low": bubble.latency["p50_low"],
                "x_high": bubble.latency["p50_high"],
                "y": bubble.quality[0],
                "y_low": bubble.quality[1],
                "y_high": bubble.quality[2],
                "area": bubble.area,
                "role": bubble.role,
                "tooltip": bubble.tooltip,
                "text": bubble.text,
                "text_x": canvas.latency(label.x),
                "text_y": canvas.quality((label.box.top + label.box.bottom) / 2),
                "leader": label.leader,
                "leader_x": canvas.latency(leader_x),
                "leader_y": canvas.quality(leader_y),
                "align": label.align,
            }
        )
    return sorted(rows, key=lambda row: -row["area"])


def _chart(bubbles: Sequence[Bubble], canvas: Canvas, titles: tuple[str, str]) -> altair.LayerChart:
    import altair as alt

    def across(field: str) -> altair.X:
        scale = alt.Scale(type="log", domain=[canvas.fastest, canvas.slowest], nice=False)
        axis = alt.Axis(values=svg.log_ticks(canvas.fastest, canvas.slowest), format="~g")
        return alt.X(f"{field}:Q", scale=scale, axis=axis, title=titles[0])

    def up(field: str) -> altair.Y:
        scale = alt.Scale(domain=[canvas.worst, canvas.best], nice=False, zero=False)
        return alt.Y(f"{field}:Q", scale=scale, axis=alt.Axis(tickCount=6), title=titles[1])

    rows = _rows(bubbles, canvas)
    frontier = svg.data([{"x": bubble.latency["p50"], "y": bubble.quality[0]} for bubble in frontier_line(bubbles)])
    points = svg.data(rows)
    leaders = svg.data([row for row in rows if row["leader"]])

    roles = [role for role in _ROLES if any(bubble.role == role for bubble in bubbles)]
    fill = alt.Scale(domain=roles, range=[_ROLES[role][0] for role in roles])
    stroke = alt.Scale(domain=roles, range=[_ROLES[role][1] for role in roles])
    shape = alt.Scale(domain=roles, range=[_ROLES[role][2] for role in roles])
    columns = 2 if canvas.width < _NARROW else len(roles)
    # Wide gaps, as the reader's font may be wider than the one that was measured.
    legend = alt.Legend(
        title=None, orient="top", symbolSize=110, symbolStrokeWidth=2, columns=columns, columnPadding=30
    )

    layers = [
        frontier.mark_line(aria=False, interpolate="step-after", color=POINT, opacity=0.55, strokeWidth=1.5).encode(
            across("x"), up("y")
        ),
        points.mark_rule(color=MUTED, opacity=0.55).encode(across("x"), up("y_low"), y2="y_high"),
        points.mark_rule(color=MUTED, opacity=0.55).encode(across("x_low"), up("y"), x2="x_high"),
        leaders.mark_rule(color=MUTED, opacity=0.55).encode(across("x"), up("y"), x2="leader_x", y2="leader_y"),
        points.mark_point(opacity=0.92, strokeWidth=2).encode(
            across("x"),
            up("y"),
            alt.Size("area:Q", scale=None, legend=None),
            alt.Fill("role:N", scale=fill, legend=legend),
            alt.Stroke("role:N", scale=stroke, legend=legend),
            alt.Shape("role:N", scale=shape, legend=legend),
            alt.Description("tooltip:N"),
        ),
    ]
    for row in rows:
        weight: Literal["bold", "normal"] = "bold" if row["role"] == "selected" else "normal"
        words = svg.data([row]).encode(across("text_x"), up("text_y"), text="text:N")
        # The halo keeps a label readable where a line runs behind it.
        halo = words.mark_text(
            align=row["align"], fontSize=FONT_SIZE, fontWeight=weight, color=PAPER, stroke=PAPER, strokeWidth=3
        )
        layers += [halo, words.mark_text(align=row["align"], fontSize=FONT_SIZE, fontWeight=weight, color=INK)]
    return alt.LayerChart(layer=layers, width=canvas.width, height=canvas.height)
