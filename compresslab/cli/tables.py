"""A report's table on a terminal, or as aligned text where the output goes elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

if TYPE_CHECKING:
    from compresslab.report.table import Table

_GAP = 2


def show_table(table: Table, console: Console | None = None) -> None:
    """Prints a table to stdout: drawn on a terminal (the essential columns only, where it is narrow), else plain."""
    screen = console or Console()
    if not screen.is_terminal:
        typer.echo(plain(table))
        return
    shown = table if _width(table) <= screen.width else table.essential()
    drawn = RichTable(box=None, padding=(0, _GAP, 0, 0), header_style="bold", caption_justify="left")
    drawn.caption = Text(shown.caption) if shown.caption else None
    for column in shown.columns:
        drawn.add_column(Text(column.heading), justify="right" if column.numeric else "left")
    for row in shown.rows:
        style = "bold green" if row.selected else "dim" if row.reference or row.control else None
        # Text, for `[10.1, 10.7]` in a cell would be read as markup.
        drawn.add_row(*(Text(cell) for cell in row.cells), style=style)
    screen.print(drawn)


def plain(table: Table) -> str:
    """The table as lines of aligned columns, its caption below."""
    widths = _widths(table)
    lines = [[column.heading for column in table.columns], *(row.cells for row in table.rows)]
    text = []
    for cells in lines:
        aligned = (
            cell.rjust(width) if column.numeric else cell.ljust(width)
            for cell, width, column in zip(cells, widths, table.columns, strict=True)
        )
        text.append((" " * _GAP).join(aligned).rstrip())
    return "\n".join([*text, table.caption] if table.caption else text)


def _widths(table: Table) -> list[int]:
    rows = [[column.heading for column in table.columns], *(row.cells for row in table.rows)]
    return [max(len(cells[index]) for cells in rows) for index in range(len(table.columns))]


def _width(table: Table) -> int:
    return sum(_widths(table)) + _GAP * len(table.columns)
