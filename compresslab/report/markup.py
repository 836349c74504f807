"""Elements of a page, built as a tree so that no text of a user's can become markup."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree

from compresslab.report.table import LEGEND, Column, Row, Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Element = ElementTree.Element
Content = Element | str


def element(tag: str, attributes: Mapping[str, str] | None = None, *contents: Content) -> Element:
    """An element with these contents, text and elements in any order."""
    made = Element(tag, dict(attributes or {}))
    last: Element | None = None
    for content in contents:
        if isinstance(content, str):
            if last is None:
                made.text = (made.text or "") + content
            else:
                last.tail = (last.tail or "") + content
        else:
            made.append(content)
            last = content
    return made


def bullets(lines: Iterable[str]) -> Element:
    """A list, one item a line."""
    return element("ul", None, *(element("li", None, line) for line in lines))


def table_element(table: Table) -> Element:
    """A table that scrolls sideways on its own where the screen is narrow, and can be reached by keyboard for it."""
    head = [
        element("th", {"scope": "col", **_looks(column), **_hint(column)}, column.heading or _hidden("marks"))
        for column in table.columns
    ]
    drawn = element(
        "table",
        None,
        element("caption", None, element("span", None, table.caption)),
        element("thead", None, element("tr", None, *head)),
        element("tbody", None, *(_row(table, row) for row in table.rows)),
    )
    return element("div", {"class": "scroll", "role": "region", "aria-label": table.caption, "tabindex": "0"}, drawn)


def page_text(root: Element) -> str:
    """The whole page as text."""
    return "<!doctype html>\n" + ElementTree.tostring(root, encoding="unicode", method="html") + "\n"


def _row(table: Table, row: Row) -> Element:
    cells = []
    for index, (column, text) in enumerate(zip(table.columns, row.cells, strict=True)):
        if index == table.heads_row:
            cells.append(element("th", {"scope": "row"}, text))
        elif text and all(symbol in LEGEND for symbol in text):
            meaning = ", ".join(LEGEND[symbol] for symbol in text)
            symbols = element("span", {"aria-hidden": "true", "title": meaning}, text)
            cells.append(element("td", {"class": "marks"}, symbols, _hidden(meaning)))
        else:
            cells.append(element("td", _looks(column), text))
    states = (("selected", row.selected), ("reference", row.reference), ("control", row.control))
    classes = " ".join(name for name, holds in states if holds)
    return element("tr", {"class": classes} if classes else None, *cells)


def _looks(column: Column) -> dict[str, str]:
    return {"class": "number"} if column.numeric else {"class": "prose"} if column.prose else {}


def _hint(column: Column) -> dict[str, str]:
    return {"title": column.hint} if column.hint else {}


def _hidden(text: str) -> Element:
    """Text for screen readers alone."""
    return element("span", {"class": "hidden"}, text)
