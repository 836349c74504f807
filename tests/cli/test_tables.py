"""Tables: aligned text in a pipe, drawn on a terminal."""

from __future__ import annotations

import io

from rich.console import Console

from compresslab.cli.tables import plain, show_table
from compresslab.report.table import Column, Row, Table

TABLE = Table(
    "What was found.",
    (Column("stage", essential=True), Column("kB", True, True), Column("interval", True)),
    (Row("a", ("baseline", "2,828", "4.10x [4.00, 4.20]")), Row("b", ("prune", "82.7", "-"), selected=True)),
)


def drawn(width: int) -> str:
    stream = io.StringIO()
    show_table(TABLE, Console(file=stream, force_terminal=True, width=width, color_system=None))
    return stream.getvalue()


def test_plain_columns_are_aligned_numbers_to_the_right() -> None:
    assert plain(TABLE).splitlines() == [
        "stage        kB            interval",
        "baseline  2,828  4.10x [4.00, 4.20]",
        "prune      82.7                   -",
        "What was found.",
    ]


def test_brackets_are_no_markup_on_a_terminal() -> None:
    text = drawn(80)
    assert "4.10x [4.00, 4.20]" in text
    assert "What was found." in text


def test_a_narrow_terminal_gets_the_essential_columns() -> None:
    text = drawn(30)
    assert "baseline" in text
    assert "interval" not in text
