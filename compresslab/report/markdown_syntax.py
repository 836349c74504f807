"""Text as Markdown (GitHub's dialect), escaped: names, labels and settings come from users."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from compresslab.report.table import Table

# Only what would mean something there, so that the file also reads well as it is.
_SPECIAL = re.compile(r"([\\`*|<&]|^[#>]|~(?=~)|\](?=[(\[:])|(?<!\w)_|_(?!\w))")


def escape(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def bullets(lines: Iterable[str]) -> str:
    """A list, one item a line."""
    return "\n".join(f"- {escape(line)}" for line in lines)


def code(text: str) -> str:
    """A code span that no backtick inside can end."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    return f"{fence} {text} {fence}" if longest else f"{fence}{text}{fence}"


def table(drawn: Table) -> str:
    """A table and, below it, its caption."""
    rules = ["---:" if column.numeric else "---" for column in drawn.columns]
    lines = [
        _line([escape(column.heading) for column in drawn.columns]),
        _line(rules),
        *(_line([escape(cell) for cell in row.cells]) for row in drawn.rows),
    ]
    return "\n".join(lines) + f"\n\n{escape(drawn.caption)}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
