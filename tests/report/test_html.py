"""report.html is read back with a parser: what it shows are the figures of the results, and nothing in it runs."""

from __future__ import annotations

import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from compresslab.report.headline import headline
from compresslab.report.html import html, write_html
from compresslab.report.report import Report
from compresslab.report.results import results
from compresslab.report.retention import MARKS, by_class, distillation, retention_table
from compresslab.report.schema import Results
from compresslab.report.table import (
    AGREEMENT,
    checks_table,
    float_table,
    latency_table,
    machine_table,
    points_table,
    stages_table,
)

VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """Tables by caption, and every element with its attributes and its own text; checks that elements are closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.texts: list[tuple[str, str]] = []
        self.open: list[str] = []
        self._rows: list[list[str]] = []
        self._caption = ""
        self._hidden = 0
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in VOID:
            return
        self.open.append(tag)
        if dict(attrs).get("class") == "hidden":
            self._hidden = len(self.open)
        if tag == "table":
            self._rows, self._caption = [], ""
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            self._rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if self._hidden > len(self.open):
            self._hidden = 0
        if tag == "table":
            self.tables[self._caption] = self._rows

    def handle_data(self, data: str) -> None:
        if not self.open:
            return
        self.texts.append((self.open[-1], data))
        if "caption" in self.open:
            self._caption += data
        elif ("td" in self.open or "th" in self.open) and not self._hidden:
            self._rows[-1][-1] += data

    def text(self, tag: str) -> list[str]:
        return [text for inside, text in self.texts if inside == tag]


def test_tables_have_the_cells_of_the_results(found: Results, page: str) -> None:
    parsed = Page(page)
    tables = [
        points_table(found), stages_table(found), latency_table(found), checks_table(found),
        machine_table(found["machine"]), *(table for one in by_class(found) for table in (one.classes, one.flips)),
    ]  # fmt: skip
    kept = retention_table(found)
    assert kept is not None
    tables.append(kept)
    in_float = float_table(found)
    assert in_float is not None
    tables.append(in_float)
    assert len(tables) == 5 + 2 * 5 + 2
    assert set(parsed.tables) == {table.caption for table in tables}
    for table in tables:
        head, *rows = parsed.tables[table.caption]
        assert head == [column.heading for column in table.columns]
        assert rows == [list(row.cells) for row in table.rows]


def test_the_headline_and_the_budget_stand_on_top(found: Results) -> None:
    found["budget"] = {"status": "fail", "violations": ["p90_ms: 0.066 is over 0.05"]}
    page = Page(html(found))
    assert headline(found) in page.text("p")
    assert "budget: fail" in page.text("span")
    assert "p90_ms: 0.066 is over 0.05" in page.text("li")
    assert any("made the model slower" in text for text in page.text("li"))


def test_pictures_show_the_figures_of_the_results(found: Results, page: str) -> None:
    parsed = Page(page)
    pictures = [attributes for tag, attributes in parsed.elements if tag == "svg"]
    assert [attributes["class"] for attributes in pictures] == ["wide", "narrow", "panel", "panel", "panel"]
    assert all(attributes["role"] == "img" and attributes["aria-label"] for attributes in pictures)
    assert parsed.text("title").count("quantize mode=qat (selected): 0.0615 ms, 92.91 % [92.41, 93.41], 82.9 kB") == 2
    assert "339 kB, 8.33x smaller" in parsed.text("text")
    # The same page from other figures is another page: nothing is drawn from elsewhere.
    found["points"][4]["latency_ms"][0]["p50"] = 0.0999
    assert any("(selected): 0.0999 ms" in text for text in Page(html(found)).text("title"))


def test_the_page_stands_alone_and_runs_nothing(page: str) -> None:
    parsed = Page(page)
    tags = {tag for tag, _ in parsed.elements}
    assert not tags & {"script", "link", "img", "iframe", "object"}
    for tag, attributes in parsed.elements:
        assert not [name for name in attributes if name.startswith("on") or name in ("src", "href", "srcset")], tag
    policies = [attributes for _, attributes in parsed.elements if "http-equiv" in attributes]
    assert policies[0]["content"] == "default-src 'none'; style-src 'unsafe-inline'"
    assert "url(" not in page
    assert "@import" not in page


def test_hostile_names_become_text(report: Report, page: str) -> None:
    attack = '</title></style><script>alert(1)</script><img src=x onerror="alert(2)">&lt;b&gt;'
    notes = (attack, f"quantize: {attack}")
    hostile = results(replace(report, pipeline=attack, notes=notes, machine={attack: attack}))
    hostile["points"][1]["stage"] = attack
    hostile["points"][1]["settings"] = {attack: attack}
    hostile["points"][1]["retention_by_class"]["fashion_mnist"]["classes"][0]["label"] = attack
    parsed = Page(html(hostile))
    assert {tag for tag, _ in parsed.elements} == {tag for tag, _ in Page(page).elements}
    assert "".join(parsed.text("h1")) == attack
    assert attack in parsed.tables["The machine that measured."][1]


def test_tables_can_be_read_by_a_screen_reader(page: str) -> None:
    parsed = Page(page)
    scopes = [attributes.get("scope") for tag, attributes in parsed.elements if tag == "th"]
    assert set(scopes) == {"row", "col"}
    regions = [attributes for _, attributes in parsed.elements if attributes.get("role") == "region"]
    assert all(attributes["tabindex"] == "0" and attributes["aria-label"] for attributes in regions)
    assert ("html", {"lang": "en"}) in parsed.elements
    assert "selected, on the Pareto frontier" in parsed.text("span")


def test_identifiers_are_unique(page: str) -> None:
    # Five pictures in one page: a clip path that two of them define would cut the wrong one.
    identifiers = [attributes["id"] for _, attributes in Page(page).elements if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))


def test_colours_have_a_dark_counterpart(page: str) -> None:
    style = "".join(Page(page).text("style"))
    assert "prefers-color-scheme: dark" in style
    used = {
        value
        for tag, attributes in Page(page).elements
        for name, value in attributes.items()
        if tag != "svg" and name in ("fill", "stroke") and value not in (None, "none", "transparent")
    }
    assert [colour for colour in used if f'"{colour}"' not in style] == []


def test_without_the_chart_library_the_tables_are_there(found: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "altair", None)
    page = Page(html(found))
    assert "svg" not in {tag for tag, _ in page.elements}
    assert "The pictures need the extra `report`: pip install 'compresslab[report]'" in page.text("p")
    assert len(page.tables) == 17


def test_classes_are_folded_but_for_the_selected_model(page: str) -> None:
    parsed = Page(page)
    opened = [attributes for tag, attributes in parsed.elements if tag == "details" and "open" in attributes]
    assert len(opened) == 1
    titles = [text for text in parsed.text("summary") if "classes lost" in text]
    assert titles[3] == ("quantize mode=qat on fashion_mnist: 1 of 10 classes lost, 517 of 10,000 answers changed")
    assert MARKS in parsed.text("p")


def test_that_agreement_is_never_gated_is_told(page: str) -> None:
    parsed = Page(page)
    heads = [attributes for tag, attributes in parsed.elements if tag == "th" and "title" in attributes]
    assert [attributes["title"] for attributes in heads] == [AGREEMENT]
    assert AGREEMENT.endswith("shown, but no budget can gate it")
    assert any(text.startswith("Agreement is how alike the answers") for text in parsed.text("p"))


def test_checks_of_stages_have_a_heading_of_their_own(found: Results) -> None:
    found["notes"] = ["distill: temperature 4 was not tuned", "a and b are tied", "distill: no control was run"]
    page = Page(html(found))
    headings = [(tag, text) for tag, text in page.texts if tag in ("h2", "h3")]
    assert headings[headings.index(("h2", "Checks")) + 1 :][:2] == [("h3", "distill"), ("h2", "Notes")]
    items = page.text("li")
    first = items.index("temperature 4 was not tuned")
    assert items[first + 1] == "no control was run"
    assert "a and b are tied" in items[first + 2 :]
    found["notes"] = []
    assert "Checks" not in Page(html(found)).text("h2")


def test_a_control_looks_like_one_and_says_what_the_teacher_was_worth(controlled: Results) -> None:
    page = Page(html(controlled))
    assert len([tag for tag, attributes in page.elements if tag == "tr" and attributes.get("class") == "control"]) >= 4
    assert "control: trained at the same cost without the teacher" in page.text("span")
    assert distillation(controlled)[0] in page.text("li")
    assert "△ control: trained" in "".join(page.text("p"))


def test_a_run_without_a_selected_model_has_a_page(found: Results) -> None:
    found["selected"] = None
    assert "No model was selected: every one of the 6 is over the budget." in Page(html(found)).text("p")


def test_it_is_written_whole(found: Results, page: str, tmp_path: Path) -> None:
    path = write_html(found, tmp_path)
    assert path.read_text(encoding="utf-8") == page
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
