"""From an altair chart to static SVG: no script, a text alternative, a tooltip on every mark."""

from __future__ import annotations

import re
from importlib.util import find_spec
from math import floor, log10
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from compresslab.errors import BadInput
from compresslab.report.palette import GRID, INK, MUTED, PAPER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import altair

NAMESPACE = "http://www.w3.org/2000/svg"
INSTALL = "pip install 'compresslab[report]'"

_GEOMETRY = ("d", "transform", "x", "x2", "y", "y2", "width", "height")
_LONG_NUMBER = re.compile(r"-?\d+\.\d{3,}(e-?\d+)?")


def drawable() -> bool:
    """Whether the chart library, the extra `report`, is installed."""
    return find_spec("altair") is not None and find_spec("vl_convert") is not None


def require_library() -> None:
    """Raises BadInput, with the remedy, where the chart library is not installed."""
    if not drawable():
        raise BadInput(f"pictures need altair and vl-convert-python, which are not installed; {INSTALL}")


def data(rows: Sequence[Mapping[str, Any]]) -> altair.Chart:
    """A chart, without marks yet, over these rows."""
    import altair

    return altair.Chart(altair.InlineData(values=list(rows)))


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2, 5, 10, ... between two positive numbers."""
    powers = range(floor(log10(low)), floor(log10(high)) + 1)
    steps = (float(f"{step}e{power}") for power in powers for step in (1, 2, 5))
    return [step for step in steps if low <= step <= high]


def render(chart: altair.LayerChart, title: str) -> ElementTree.Element:
    """Draws a chart, in the look all pictures share, as an <svg> element that fits into HTML as it is.

    Args:
        chart: The chart; what the `description` of its marks says becomes their tooltip.
        title: The text alternative of the whole picture.
    """
    import altair
    import vl_convert

    styled = (
        chart.properties(background=PAPER)
        .configure_axis(
            labelColor=MUTED, titleColor=INK, gridColor=GRID, domainColor=MUTED, tickColor=MUTED,
            labelFontSize=11, titleFontSize=12, titleFontWeight="normal",
        )
        .configure_legend(labelColor=INK, labelFontSize=12)
        .configure_view(stroke=None)
    )  # fmt: skip
    version = ".".join(altair.SCHEMA_VERSION.lstrip("v").split(".")[:2])
    drawn = vl_convert.vegalite_to_svg(styled.to_dict(), vl_version=version)
    root = ElementTree.fromstring(drawn)  # noqa: S314 - written by the line above, which declares no entities
    for element in list(root.iter()):
        _tidy(element)
    # One picture for a screen reader, not a hundred marks.
    root.set("role", "img")
    root.set("aria-label", title)
    return root


def standalone(root: ElementTree.Element) -> str:
    """The SVG as the text of a file."""
    root.set("xmlns", NAMESPACE)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def to_png(text: str) -> bytes:
    """The picture of an SVG text, at two pixels a pixel."""
    import vl_convert

    return bytes(vl_convert.svg_to_png(text, scale=2))


def _tidy(element: ElementTree.Element) -> None:
    """Drops the namespace, turns a mark's label into its tooltip, and shortens numbers to what a screen can show."""
    element.tag = element.tag.removeprefix(f"{{{NAMESPACE}}}")
    for name in _GEOMETRY:
        if name in element.attrib:
            element.set(name, _LONG_NUMBER.sub(lambda found: f"{float(found[0]):.2f}", element.attrib[name]))
    role, label = element.attrib.pop("role", None), element.attrib.pop("aria-label", None)
    # Axes and legends are labelled too, with words that only repeat what is written there.
    if label is not None and role == "graphics-symbol" and element.tag == "path":
        ElementTree.SubElement(element, "title").text = label
    for name in ("aria-roledescription", "aria-hidden"):
        element.attrib.pop(name, None)
