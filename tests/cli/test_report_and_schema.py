"""compresslab report and compresslab schema."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from compresslab.config import pipeline_schema
from compresslab.report import Report
from compresslab.report.results import write_results

from .conftest import Ended

Command = Callable[..., Ended]


def test_report_shows_a_run_again(command: Command, report: Report, tmp_path: Path) -> None:
    write_results(report, tmp_path)
    (tmp_path / "report.html").write_text("")
    ended = command("report", str(tmp_path))
    assert ended.code == 0
    for heading in ("against its parent", "verdict", "samples", "integer operators", "a processor"):
        assert heading in ended.out, "every table is there"
    assert ended.out.endswith(f"report: {tmp_path / 'report.html'}\n")


def test_report_ends_well_whatever_the_budget_said(command: Command, report: Report, tmp_path: Path) -> None:
    path = write_results(report, tmp_path)
    path.write_text(path.read_text().replace('"status": "pass"', '"status": "fail"'))
    ended = command("report", str(tmp_path))
    assert ended.code == 0
    assert "Over the budget." in ended.out


def test_a_folder_that_is_no_run(command: Command, tmp_path: Path) -> None:
    ended = command("report", str(tmp_path))
    assert ended.code == 2
    assert "there is no results.json" in ended.err


def test_schema_prints_json(command: Command) -> None:
    ended = command("schema")
    assert ended.code == 0
    assert json.loads(ended.out) == pipeline_schema()
