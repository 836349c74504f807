"""report.html: one file that works offline, without scripts: pictures, tables, and what to know about them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

from compresslab.report import charts, sensitivity, svg, waterfall
from compresslab.report.benchmarks import benchmarks_table, index_table
from compresslab.report.headline import budget_sentence, headline, selection
from compresslab.report.lineage import names, ordered
from compresslab.report.markdown import COMMAND, REPRODUCE
from compresslab.report.markup import Element, bullets, element, page_text, table_element
from compresslab.report.notes import other_notes, stage_notes
from compresslab.report.retention import MARKS, ByClass, by_class, distillation, retention_table
from compresslab.report.style import STYLE
from compresslab.report.table import (
    AGREEMENT,
    checks_table,
    float_table,
    latency_table,
    legend,
    machine_table,
    points_table,
    stages_table,
)
from compresslab.report.writing import write_whole

if TYPE_CHECKING:
    from pathlib import Path

    from compresslab.report.schema import PointResult, Results
    from compresslab.report.table import Table

HTML_FILE = "report.html"

# A report may hold text from anywhere; even if some became markup, nothing in the page could run or be fetched.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_NARROW = (340, 380)


def html(results: Results) -> str:
    """The report as a page. Without the extra `report` it has the tables, and says how to get the pictures."""
    status = results["budget"]["status"]
    notes = other_notes(results)
    body = [
        element("h1", None, results["pipeline"]),
        element("p", {"class": "headline"}, headline(results)),
        element(
            "p",
            None,
            element("span", {"class": f"badge {status}"}, f"budget: {status}"),
            " ",
            selection(results),
        ),
        *_pareto(results),
        element("h2", None, "Models"),
        table_element(points_table(results)),
        element("p", {"class": "legend"}, "; ".join(f"{mark} {meaning}" for mark, meaning in legend(results).items())),
        element("p", {"class": "legend"}, f"Agreement is {AGREEMENT}."),
        element("h2", None, "What each stage cost and bought"),
        *_waterfall(results),
        table_element(stages_table(results)),
        *_teacher(results),
        *_titled("Benchmarks", benchmarks_table(results)),
        *_titled("Index", index_table(results)),
        *_sensitivity(results),
        element("h2", None, "Budget"),
        element("p", None, budget_sentence(results)),
        *([bullets(results["budget"]["violations"])] if results["budget"]["violations"] else []),
        *_checks(results),
        *([element("h2", None, "Notes"), bullets(notes)] if notes else []),
        element("h2", None, "Latency"),
        table_element(latency_table(results)),
        element("h2", None, "Exported files"),
        table_element(checks_table(results)),
        *_in_float(results),
        element("h2", None, "Settings and decisions"),
        *_settings(results),
        element("h2", None, "Machine"),
        table_element(machine_table(results["machine"])),
        element("h2", None, "Reproduce"),
        element("p", None, REPRODUCE.replace("`", "")),
        element("pre", None, element("code", None, COMMAND)),
    ]
    head = element(
        "head",
        None,
        element("meta", {"charset": "utf-8"}),
        element("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        element("meta", {"http-equiv": "Content-Security-Policy", "content": _POLICY}),
        element("title", None, f"{results['pipeline']}: compression report"),
        element("style", None, STYLE),
    )
    return page_text(element("html", {"lang": "en"}, head, element("body", None, element("main", None, *body))))


def write_html(results: Results, run_dir: Path) -> Path:
    """Writes `report.html` into the run directory, whole or not at all, and returns its path.

    Raises:
        StoreError: The disk is full, or the folder may not be written.
    """
    return write_whole(run_dir / HTML_FILE, html(results))


def _pareto(results: Results) -> list[Element]:
    """The Pareto picture twice, wide and narrow: the style shows the one that fits."""
    if not svg.drawable():
        return [element("p", {"class": "legend"}, f"The pictures need the extra `report`: {svg.INSTALL}")]
    wide, narrow = charts.pareto(results), charts.pareto(results, *_NARROW)
    if wide is None or narrow is None:
        return []
    wide.set("class", "wide")
    narrow.set("class", "narrow")
    caption = element(
        "figcaption",
        None,
        "Up and to the left is better. The area of a point is its file size; bars are 95 % intervals; the line joins "
        "what no faster model reaches. The frontier is that of latency, size and quality on validation.",
    )
    return [element("figure", {"class": "pareto"}, wide, narrow, caption)]


def _waterfall(results: Results) -> list[Element]:
    if not svg.drawable():
        return []
    drawn = [waterfall.draw(panel) for panel in waterfall.panels(results)]
    for picture in drawn:
        picture.set("class", "panel")
    caption = element(
        "figcaption",
        None,
        "From the model before (right or left end of a bar) to the model after (the dark tick), along the path to the "
        "selected one. ",
        element("span", {"class": "better"}, "Blue"),
        " is better, ",
        element("span", {"class": "worse"}, "orange"),
        " worse, grey not clearly either. Size and latency are drawn by factors: equal lengths are equal ratios.",
    )
    return [element("figure", None, element("div", {"class": "panels"}, *drawn), caption)]


def _sensitivity(results: Results) -> list[Element]:
    """For each pruning that judged its groups one by one: a picture in a part of the page that opens."""
    if not svg.drawable():
        return []
    found = []
    for point in results["points"]:
        judged = point["decisions"].get("sensitivity")
        if not (isinstance(judged, dict) and any(group["levels"] for group in judged.get("groups", ()))):
            continue
        title = f"{point['stage']} ({point['id']}): what each group's units are worth"
        picture = sensitivity.draw(cast("sensitivity.SensitivityResult", judged), "KL to the answers before the cut")
        found.append(element("details", None, element("summary", None, title), element("figure", None, picture)))
    return found


def _teacher(results: Results) -> list[Element]:
    """What is left of the teacher: the totals, and every class in a part of the page that opens."""
    told, kept, classes = distillation(results), retention_table(results), by_class(results)
    parts = [bullets(told)] if told else []
    if kept is not None:
        parts.append(table_element(kept))
    if classes:
        parts.append(element("p", {"class": "legend"}, MARKS))
    parts += [_classes(one, results["selected"]) for one in classes]
    return [element("h2", None, "Against the teacher"), *parts] if parts else []


def _classes(one: ByClass, selected: str | None) -> Element:
    summary = element("summary", None, one.title)
    opened = {"open": "open"} if one.id == selected else None
    tables = [table_element(table) for table in (one.classes, one.flips) if table.rows]
    return element("details", opened, summary, *tables)


def _titled(title: str, found: Table | None) -> list[Element]:
    return [] if found is None else [element("h2", None, title), table_element(found)]


def _checks(results: Results) -> list[Element]:
    """What stages found out about themselves, apart from other notes."""
    found = stage_notes(results)
    parts = [part for stage, told in found.items() for part in (element("h3", None, stage), bullets(told))]
    return [element("h2", None, "Checks"), *parts] if parts else []


def _in_float(results: Results) -> list[Element]:
    found = float_table(results)
    return [] if found is None else [element("h2", None, "Operators in float"), table_element(found)]


def _settings(results: Results) -> list[Element]:
    named = names(results)
    return [
        element(
            "details",
            None,
            element("summary", None, f"{named[point['id']]} (stages/{point['id']}/)"),
            element("pre", None, element("code", None, _settings_text(point))),
        )
        for point in ordered(results)
    ]


def _settings_text(point: PointResult) -> str:
    plain = {"lineage": point["lineage"], "settings": point["settings"], "decisions": point["decisions"]}
    return json.dumps(plain, indent=2, ensure_ascii=False)
