"""report.md: the whole report as Markdown, for a terminal, a pull request or a wiki."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from compresslab.report.benchmarks import benchmarks_table, index_table
from compresslab.report.headline import budget_sentence, headline, selection
from compresslab.report.lineage import names, ordered
from compresslab.report.markdown_syntax import bullets, code, escape, table
from compresslab.report.notes import other_notes, stage_notes
from compresslab.report.retention import MARKS, NO_CLASS_LOST, distillation, lost_table, retention_table
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
        "  \n".join(f"{symbol} {meaning}" for symbol, meaning in legend(results).items()),
        f"Agreement is {AGREEMENT}.",
        "## Stages",
        table(stages_table(results)),
        *_teacher(results),
        *_titled("Benchmarks", benchmarks_table(results)),
        *_titled("Index", index_table(results)),
        "## Budget",
        escape(budget_sentence(results)),
        bullets(results["budget"]["violations"]),
    ]
    if checks := stage_notes(results):
        parts += ["## Checks"]
        parts += [text for stage, told in checks.items() for text in (f"### {escape(stage)}", bullets(told))]
    if notes := other_notes(results):
        parts += ["## Notes", bullets(notes)]
    parts += ["## Latency", table(latency_table(results)), "## Exported files", table(checks_table(results))]
    if (in_float := float_table(results)) is not None:
        parts += ["## Operators in float", table(in_float)]
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


def _teacher(results: Results) -> list[str]:
    """Totals, and the classes that were lost; the page has all of them."""
    kept, lost = retention_table(results), lost_table(results)
    parts = [bullets(distillation(results))]
    if kept is not None:
        parts.append(table(kept))
    if lost is not None:
        parts += [table(lost) if lost.rows else NO_CLASS_LOST, MARKS]
    return ["## Against the teacher", *parts] if any(parts) else []


def _titled(title: str, found: Table | None) -> list[str]:
    return [] if found is None else [f"## {title}", table(found)]


def _settings(point: PointResult, name: str) -> str:
    plain = json.dumps({"settings": point["settings"], "decisions": point["decisions"]}, ensure_ascii=False)
    return f"- {escape(name)} (`stages/{point['id']}/`): {code(plain)}"
