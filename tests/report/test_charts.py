"""The pictures show the figures of the results: positions and areas are read back from the SVG."""

from __future__ import annotations

import re
import sys
from itertools import combinations
from math import log, pi
from pathlib import Path
from xml.etree import ElementTree

import pytest

from compresslab.errors import BadInput
from compresslab.report import svg, write_chart
from compresslab.report.charts import pareto
from compresslab.report.palette import CONTROL, PAPER
from compresslab.report.pareto import bubbles_of, canvas_for, frontier_line, place_labels
from compresslab.report.schema import Results
from compresslab.report.waterfall import draw, panels

PLACE = re.compile(r"translate\((-?[\d.]+),(-?[\d.]+)\)")


def circles(picture: ElementTree.Element) -> dict[str, tuple[float, float, float, str]]:
    """The points: x, y, area and fill by name."""
    found = {}
    for path in picture.iter("path"):
        title = path.find("title")
        if title is None or title.text is None:
            continue
        place = PLACE.fullmatch(path.attrib["transform"])
        radius = re.match(r"M([\d.]+),0", path.attrib["d"])
        assert place is not None
        assert radius is not None
        name = title.text.split(" (")[0] if "(reference)" not in title.text else "quantize (reference)"
        found[name] = (float(place[1]), float(place[2]), pi * float(radius[1]) ** 2, path.attrib["fill"])
    return found


def texts(picture: ElementTree.Element) -> list[str]:
    return [text for element in picture.iter("text") if (text := "".join(element.itertext()))]


@pytest.fixture(scope="module")
def picture(page: str) -> ElementTree.Element:
    """The wide picture of the page."""
    start = page.index("<svg", page.index("<figure"))
    return ElementTree.fromstring(page[start : page.index("</svg>", start) + len("</svg>")])


def test_points_lie_where_latency_and_accuracy_say(picture: ElementTree.Element) -> None:
    shown = circles(picture)
    base, distilled, selected = shown["baseline"], shown["distill"], shown["quantize mode=qat"]
    # Logarithmic across, linear down: the ratio of distances is that of logarithms, and of differences.
    across = (base[0] - distilled[0]) / (base[0] - selected[0])
    assert across == pytest.approx(log(0.64 / 0.0941) / log(0.64 / 0.0615), abs=2e-3)
    down = (distilled[1] - base[1]) / (selected[1] - base[1])
    assert down == pytest.approx((93.67 - 93.11) / (93.67 - 92.91), abs=2e-3)
    assert selected[0] < distilled[0] < base[0]
    assert selected[1] > distilled[1] > base[1]


def test_area_is_file_size(picture: ElementTree.Element) -> None:
    shown = circles(picture)
    assert shown["baseline"][2] / shown["distill"][2] == pytest.approx(2_828_000 / 339_400, rel=0.02)


def test_reference_points_are_hollow(picture: ElementTree.Element) -> None:
    shown = circles(picture)
    assert shown["quantize (reference)"][3] == "#ffffff"
    assert "#ffffff" not in {fill for name, (*_, fill) in shown.items() if "reference" not in name}


def test_controls_are_hollow_triangles(controlled: Results) -> None:
    picture = pareto(controlled)
    assert picture is not None
    told = {path.findtext("title") or "": path for path in picture.iter("path")}
    (mark,) = [path for title, path in told.items() if title.startswith("distill (control): 0.0940 ms")]
    assert (mark.attrib["fill"], mark.attrib["stroke"]) == (PAPER, CONTROL)
    assert "A" not in mark.attrib["d"], "an arc would make it a circle"
    assert {"control", "reference"} <= set(texts(picture))


def test_every_point_has_a_label_and_a_tooltip(picture: ElementTree.Element) -> None:
    labels = set(texts(picture))
    assert {"baseline, 2,828 kB", "quantize mode=qat, 82.9 kB", "quantize (reference), 768 kB"} <= labels
    titles = {element.text for element in picture.iter("title")}
    assert "quantize mode=qat (selected): 0.0615 ms, 92.91 % [92.41, 93.41], 82.9 kB" in titles
    assert len(titles) == 6


@pytest.mark.parametrize("size", [(720, 400), (340, 380)])
def test_labels_do_not_overlap(found: Results, size: tuple[int, int]) -> None:
    bubbles = bubbles_of(found)
    placed = place_labels(bubbles, canvas_for(bubbles, *size))
    assert all(one.box.overlap(other.box) == 0 for (*_, one), (*_, other) in combinations(placed, 2))
    assert all(label.box.outside(*size) == 0 for *_, label in placed)


def test_the_line_joins_frontier_points_that_no_faster_one_beats(found: Results) -> None:
    assert [bubble.name for bubble in frontier_line(bubbles_of(found))] == [
        "quantize mode=qat", "prune", "distill", "baseline",
    ]  # fmt: skip
    # On the frontier for its size alone: slower and worse than another, so the line passes above it.
    found["frontier"].append("d333")
    assert "quantize mode=ptq" not in [bubble.name for bubble in frontier_line(bubbles_of(found))]


def test_the_picture_is_one_image_with_a_text_alternative(picture: ElementTree.Element) -> None:
    assert picture.attrib["role"] == "img"
    assert "baseline: 0.640 ms, 93.67 %, 2,828 kB" in picture.attrib["aria-label"]
    assert not [element for element in picture.iter() if element is not picture and "role" in element.attrib]
    assert not list(picture.iter("script"))


def test_axes_are_named_after_what_was_measured(found: Results, picture: ElementTree.Element) -> None:
    assert {"latency p50, ms (batch 1, 1 thread)", "test accuracy, %"} <= set(texts(picture))
    for point in found["points"]:
        point["quality"]["test"] = {}
    untested = pareto(found)
    assert untested is not None
    assert "validation accuracy, %" in texts(untested)


def test_hostile_names_are_text(found: Results) -> None:
    found["points"][1]["stage"] = '<script>alert("x")</script>'
    picture = pareto(found)
    assert picture is not None
    assert not list(picture.iter("script"))
    assert any("<script>" in text for text in texts(picture))


def test_one_point_alone_can_be_drawn(found: Results) -> None:
    found["points"], found["selected"], found["frontier"] = found["points"][:1], None, ["a000"]
    assert pareto(found) is not None
    assert [draw(panel) is not None for panel in panels(found)] == [True, True, True]


def test_nothing_measured_gives_no_picture(found: Results, tmp_path: Path) -> None:
    for point in found["points"]:
        point["latency_ms"] = []
    assert pareto(found) is None
    with pytest.raises(BadInput, match="nothing to draw"):
        write_chart(found, tmp_path / "chart.svg")


def test_pictures_are_written_as_files(found: Results, tmp_path: Path) -> None:
    text = write_chart(found, tmp_path / "chart.svg").read_text(encoding="utf-8")
    assert ElementTree.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
    assert write_chart(found, tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(BadInput, match=r"written as \.svg or \.png, but got `\.pdf`"):
        write_chart(found, tmp_path / "chart.pdf")


def test_without_the_library_the_remedy_is_told(
    found: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "altair", None)
    with pytest.raises(BadInput, match=r"pip install 'compresslab\[report\]'"):
        write_chart(found, tmp_path / "chart.svg")


def test_the_waterfall_follows_the_path_to_the_selected_model(found: Results) -> None:
    size, latency, quality = panels(found)
    assert [step.name for step in size.steps] == ["baseline", "distill", "prune", "quantize mode=qat"]
    assert [step.value for step in size.steps] == [2828.0, 339.4, 210.3, 82.9]
    assert [step.before for step in size.steps] == [None, 2828.0, 339.4, 210.3]
    assert [step.told for step in latency.steps][1:3] == ["0.0941 ms, 6.80x faster", "0.0702 ms, 1.34x faster"]
    assert [step.effect for step in quality.steps] == ["unclear", "worse", "unclear", "unclear"]


def test_a_stage_that_costs_speed_is_drawn_as_worse(found: Results) -> None:
    found["selected"] = "d333"
    _, latency, _ = panels(found)
    assert (latency.steps[-1].effect, latency.steps[-1].told) == ("worse", "0.0743 ms, 1.06x slower")


def test_panels_say_what_they_show(found: Results) -> None:
    size, _, quality = (draw(panel) for panel in panels(found))
    assert {"339 kB, 8.33x smaller", "size, kB"} <= set(texts(size))
    assert {"93.11 %, -0.56 points", "accuracy, %"} <= set(texts(quality))
    assert "distill: 339 kB, 8.33x smaller" in size.attrib["aria-label"]


def test_ticks_are_round() -> None:
    assert svg.log_ticks(0.05, 0.7) == [0.05, 0.1, 0.2, 0.5]
