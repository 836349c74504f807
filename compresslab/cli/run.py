"""compresslab run: a pipeline file, from start or from where it stopped, to the selected model."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from compresslab.cli.options import Debug, Log, LogFormat


def run(
    pipeline: Annotated[Path, typer.Argument(metavar="PIPELINE.yaml", help="What to do.")],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The run directory.", show_default="runs/<pipeline name>")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a key, as `stages.prune.ratio=0.4`; repeatable."),
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Tell what would run, and for how long; run nothing.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Compute everything again; replace what is cached.")] = False,
    workers: Annotated[int, typer.Option(min=1, metavar="N", help="Models compressed at the same time.")] = 1,
    store: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The cache.", show_default=".store beside the run directory"),
    ] = None,
    log: LogFormat = Log.text,
    debug: Debug = False,  # noqa: ARG001 - kept by its callback
) -> None:
    """Distil, prune and quantize as the pipeline says; measure every model; select one within the budget."""
    from compresslab import runner
    from compresslab.cli.progress import json_line, showing
    from compresslab.cli.results import BUDGET_CODES, show_plan, show_results
    from compresslab.config import load_pipeline
    from compresslab.errors import BadInput, Interrupted
    from compresslab.launcher import helps
    from compresslab.progress import Silent
    from compresslab.report.results import results
    from compresslab.world import together

    if workers > 1:
        raise BadInput(f"`run` compresses one model at a time, but got `--workers {workers}`; leave it out")
    loaded = load_pipeline(pipeline, overrides or ())
    if plan:
        with together():
            lines = runner.plan(loaded, out, store=store)
        if not helps():
            show_plan(lines)
        return
    try:
        showed = nullcontext(Silent()) if helps() else showing(as_json=log is Log.json)
        with together(), showed as progress:
            report = runner.run(loaded, out, store=store, fresh=fresh, progress=progress)
    except KeyboardInterrupt as stop:
        raise Interrupted("interrupted: what is finished is kept, and the same command goes on from there") from stop
    if helps():
        return
    place = out if out is not None else Path("runs") / loaded.name
    if log is Log.json:
        status = report.budget.status
        typer.echo(json_line("done", run=str(place), selected=report.selected, budget=status))
    else:
        show_results(results(report), place)
    raise typer.Exit(BUDGET_CODES[report.budget.status])
