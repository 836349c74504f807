"""compresslab report: the tables of a run that has ended."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compresslab.cli.options import Debug


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory, such as runs/fashion-mnist.")],
    debug: Debug = False,  # noqa: ARG001 - kept by its callback
) -> None:
    """Show the results of a run again, from its results.json."""
    from compresslab.cli.results import show_results
    from compresslab.report.results import load_results

    show_results(load_results(run), run, details=True)
