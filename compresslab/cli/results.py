"""What a run found, on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from compresslab.cli.tables import show_table
from compresslab.report.figures import duration
from compresslab.report.headline import budget_sentence, headline, selection, warnings
from compresslab.report.lineage import names
from compresslab.report.retention import distillation
from compresslab.report.table import (
    Column,
    Row,
    Table,
    checks_table,
    latency_table,
    legend,
    machine_table,
    points_table,
    stages_table,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from compresslab.report.schema import Results
    from compresslab.route import PlanLine

BUDGET_CODES = {"pass": 0, "fail": 1, "inconclusive": 3}


def show_results(results: Results, run: Path, *, details: bool = False) -> None:
    """Prints the points, the selected model and where it lies; with `details` every other table as well."""
    tables = [points_table(results)]
    if details:
        tables += [stages_table(results), latency_table(results), checks_table(results)]
        tables += [machine_table(results["machine"])]
    for table in tables:
        show_table(table)
        typer.echo()
    typer.echo("   ".join(f"{mark} {meaning}" for mark, meaning in legend(results).items()))
    typer.echo(_cached(results))
    typer.echo()
    typer.echo(headline(results))
    typer.echo(selection(results))
    for told in distillation(results):
        typer.echo(told)
    for violation in results["budget"]["violations"]:
        typer.echo(f"budget: {violation}")
    typer.echo(budget_sentence(results))
    for note in [*warnings(results), *results["notes"]]:
        typer.echo(f"note: {note}")
    typer.echo()
    for what, place in (("selected model", run / "selected"), ("report", run / "report.html")):
        if place.exists():
            typer.echo(f"{what}: {place}")


def _cached(results: Results) -> str:
    named = names(results)
    cached = [named[point["id"]] for point in results["points"] if point["cached"]]
    if len(cached) == len(results["points"]):
        return "Every point is cached."
    return f"Cached: {', '.join(cached)}." if cached else "No point was cached."


def show_plan(lines: Sequence[PlanLine]) -> None:
    """Prints what would run, what comes from the cache, and how long that took the last time."""
    columns = (Column("stage", essential=True), Column("", essential=True), Column("last time", True, True))
    rows = tuple(
        Row(
            str(index),
            (
                line.stage,
                "cached" if line.cached else "to run",
                "-" if line.seconds is None else duration(line.seconds),
            ),
        )
        for index, line in enumerate(lines)
    )
    show_table(Table("", columns, rows))
    missing = [line for line in lines if not line.cached]
    known = [line.seconds for line in missing if line.seconds is not None]
    if not missing:
        typer.echo("Everything is cached; only what is not yet measured would be.")
    elif len(known) == len(missing):
        typer.echo(f"About {duration(sum(known))}, by the last run.")
    elif known:
        typer.echo(f"More than {duration(sum(known))}; some stages have not run yet.")
    else:
        typer.echo("How long it takes is known after the first run.")
