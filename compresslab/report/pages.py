"""Everything that a run directory holds for people and programs to read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compresslab.report.html import write_html
from compresslab.report.markdown import write_markdown
from compresslab.report.results import results, write_results

if TYPE_CHECKING:
    from pathlib import Path

    from compresslab.report.report import Report


def write_report(report: Report, run_dir: Path) -> None:
    """Writes `results.json`, `report.md` and `report.html` into the run directory, each whole or not at all.

    Raises:
        StoreError: The disk is full, or the folder may not be written.
    """
    write_results(report, run_dir)
    found = results(report)
    write_markdown(found, run_dir)
    write_html(found, run_dir)
