"""report.md: the whole report as Markdown, for a terminal, a pull request or a wiki."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from compresslab.report.headline import budget_sentence, headline, selection, warnings
from compresslab.report.lineage import names, ordered
from compresslab.report.markdown_syntax import bullets, code, escape, table
from compresslab.report.table import (
    LEGEND,
    checks_table,
    latency_table,
    machine_table,
    points_table,
    stages_table,
)
from compresslab.report.writing import write_whole

if TYPE_CHECKING:
    from pathlib import Path

    from compresslab.report.schema import PointResult, Results

MARKDOWN_FILE = "report.md"
REPRODUCE = (
    "`lock.yaml` beside this file holds the resolved pipeline, every seed and decision, the digests of data and code, "
    "the versions and the machine. To do it all again:"
)
COMMAND = "compresslab run lock.yaml --fresh --out again"


def markdown(results: Results) -> str:
    """The report as Markdown text (GitHub's dialect)."""
    named = names(results)
    parts = [
        f"# {escape(results['pipeline'])}",
        f"**{escape(headline(results))}**",
        escape(selection(results)),
        "## Models",
        table(points_table(results)),
        "  \n".join(f"{symbol} {meaning}" for symbol, meaning in LEGEND.items()),
        "## Stages",
        table(stages_table(results)),
        "## Budget",
        escape(budget_sentence(results)),
        bullets(results["budget"]["violations"]),
    ]
    if told := [*warnings(results), *results["notes"]]:
        parts += ["## Notes", bullets(told)]
    parts += ["## Latency", table(latency_table(results)), "## Checks", table(checks_table(results))]
    settings = "\n".join(_settings(point, named[point["id"]]) for point in ordered(results))
    parts += ["## Settings and decisions", settings]
    parts += ["## Machine", table(machine_table(results["machine"]))]
    parts += ["## Reproduce", REPRODUCE, f"```\n{COMMAND}\n```"]
    return "\n\n".join(part for part in parts if part) + "\n"


def write_markdown(results: Results, run_dir: Path) -> Path:
    """Writes `report.md` into the run directory, whole or not at all, and returns its path.

    Raises:
        StoreError: The disk is full, or the folder may not be written.
    """
    return write_whole(run_dir / MARKDOWN_FILE, markdown(results))


def _settings(point: PointResult, name: str) -> str:
    plain = json.dumps({"settings": point["settings"], "decisions": point["decisions"]}, ensure_ascii=False)
    return f"- {escape(name)} (`stages/{point['id']}/`): {code(plain)}"
