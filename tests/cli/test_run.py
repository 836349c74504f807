"""compresslab run: what it asks of the runner, what it shows, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import compresslab
from compresslab.errors import Diverged, Interrupted
from compresslab.measure.budget import BudgetResult
from compresslab.measure.measurement import Estimate
from compresslab.pipeline import Pipeline
from compresslab.report import Report

from .conftest import Ended

Command = Callable[..., Ended]


@dataclass(frozen=True)
class Line:
    stage: str
    cached: bool
    seconds: float | None


def test_it_shows_the_points_and_where_the_selected_one_lies(
    command: Command, pipeline_file: str, fake_runner: ModuleType, report: Report
) -> None:
    def run(pipeline: Pipeline, out: Path | None, *, store: Path | None, fresh: bool, progress: Any) -> Report:
        assert (pipeline.name, out, store, fresh) == ("x", None, None, False)
        progress.start("train", 2)
        progress.note("look here")
        progress.advance(2, loss=0.25)
        Path("runs/x/selected").mkdir(parents=True)
        return report

    fake_runner.run = run
    ended = command("run", pipeline_file)
    assert ended.code == 0
    assert ended.err.startswith("note: look here\ntrain  done in 0.0 s  loss 0.25\n")
    lines = ended.out.splitlines()
    assert lines[0].split()[:3] == ["stage", "kB", "params"]
    assert lines[2].startswith("★◆  prune")
    assert "4.10x [4.00, 4.20]" in lines[2]
    assert "Cached: baseline." in lines
    assert "note: auto: calibration alone is within budget" in lines
    assert lines[-1] == "selected model: runs/x/selected"


def test_it_tells_what_distillation_was_worth(
    command: Command, pipeline_file: str, fake_runner: ModuleType, report: Report
) -> None:
    base, student = report.points
    measured = replace(student.measurement, versus_control=Estimate(0.0042, -0.001, 0.009))
    control = replace(student, id="cccc", decisions={"control": True})
    with_control = replace(report, points=(base, replace(student, measurement=measured), control))
    fake_runner.run = lambda *_, **__: with_control
    lines = command("run", pipeline_file).out.splitlines()
    assert any(line.startswith("△") and "prune (control)" in line for line in lines)
    assert any(
        line.startswith("prune: distillation: +0.42 points [-0.10, +0.90] against its control") for line in lines
    )


@pytest.mark.parametrize(("status", "code"), [("pass", 0), ("fail", 1), ("inconclusive", 3)])
def test_it_ends_with_the_verdict_of_the_budget(
    command: Command, pipeline_file: str, fake_runner: ModuleType, report: Report, status: Any, code: int
) -> None:
    judged = replace(report, budget=BudgetResult(status, ("p90_ms: at most 0.05, but measured 0.12",)))
    fake_runner.run = lambda *_, **__: judged
    ended = command("run", pipeline_file)
    assert ended.code == code
    assert "budget: p90_ms: at most 0.05, but measured 0.12" in ended.out


def test_options_reach_the_runner(
    command: Command, pipeline_file: str, fake_runner: ModuleType, report: Report
) -> None:
    asked: list[Any] = []

    def run(pipeline: Pipeline, out: Path | None, **options: Any) -> Report:
        asked.extend([pipeline.seed, pipeline.stages[0].model_dump()["ratio"], out, options["store"], options["fresh"]])
        return report

    fake_runner.run = run
    ended = command(
        "run", pipeline_file, "--set", "seed=3", "--set", "stages.prune.ratio=0.25",
        "--out", "there", "--store", "cache", "--fresh",
    )  # fmt: skip
    assert ended.code == 0
    assert asked == [3, 0.25, Path("there"), Path("cache"), True]


@pytest.mark.parametrize(
    ("lines", "table", "sentence"),
    [
        (
            [Line("baseline", True, 0.5), Line("prune", False, 81.2)],
            ["baseline  cached      0.5 s", "prune     to run       81 s"],
            "About 81 s, by the last run.",
        ),
        ([Line("baseline", True, 1.0)], ["baseline  cached      1.0 s"], "Everything is cached"),
        ([Line("baseline", False, None)], ["baseline  to run          -"], "known after the first run"),
        (
            [Line("baseline", False, 4.0), Line("prune", False, None)],
            ["baseline  to run      4.0 s", "prune     to run          -"],
            "More than 4.0 s; some stages have not run yet.",
        ),
    ],
)
def test_plan_tells_what_would_run_and_runs_nothing(
    command: Command, pipeline_file: str, fake_runner: ModuleType, lines: list[Line], table: list[str], sentence: str
) -> None:
    fake_runner.plan = lambda *_, **__: tuple(lines)
    ended = command("run", pipeline_file, "--plan")
    assert ended.code == 0
    assert ended.out.splitlines()[1:-1] == table
    assert sentence in ended.out.splitlines()[-1]


def test_workers_is_refused_while_nothing_runs_in_parallel(command: Command, pipeline_file: str) -> None:
    ended = command("run", pipeline_file, "--workers", "4")
    assert (ended.code, ended.err) == (
        2,
        "error: `run` compresses one model at a time, but got `--workers 4`; leave it out\n",
    )


@pytest.mark.parametrize("asked", ["option", "environment"])
def test_as_json_every_line_is_an_object(
    command: Command, pipeline_file: str, fake_runner: ModuleType, report: Report,
    monkeypatch: pytest.MonkeyPatch, asked: str,
) -> None:  # fmt: skip
    """A collector of logs reads both streams of a container and nothing else."""

    def run(*_: Any, progress: Any, **__: Any) -> Report:
        progress.start("train", 2)
        progress.note("look here")
        progress.advance(2, epoch=1, loss=0.25)
        return replace(report, budget=BudgetResult("fail", ("p90_ms: at most 0.05, but measured 0.12",)))

    fake_runner.run = run
    if asked == "environment":
        monkeypatch.setenv("COMPRESSLAB_LOG", "json")
    ended = command("run", pipeline_file, *(["--log", "json"] if asked == "option" else []))
    assert ended.code == 1
    told = [json.loads(line) for line in ended.err.splitlines()]
    assert [line["event"] for line in told] == ["start", "note", "end"]
    assert (told[-1]["phase"], told[-1]["epoch"], told[-1]["loss"]) == ("train", 1, 0.25)
    (done,) = [json.loads(line) for line in ended.out.splitlines()]
    assert done.pop("time") > 1.7e9
    assert done == {"event": "done", "run": "runs/x", "selected": "bbbb", "budget": "fail"}


@pytest.mark.parametrize(
    ("error", "event", "code"),
    [
        (Diverged("the loss became nan"), "error", 4),
        (KeyboardInterrupt("signal 15"), "interrupted", 130),
        (ZeroDivisionError("division by zero"), "error", 4),
    ],
)
def test_as_json_what_ended_it_is_an_object_too(
    command: Command, pipeline_file: str, fake_runner: ModuleType, error: BaseException, event: str, code: int
) -> None:
    def run(*_: Any, **__: Any) -> Report:
        raise error

    fake_runner.run = run
    ended = command("run", pipeline_file, "--log", "json")
    assert (ended.code, ended.out) == (code, "")
    (told,) = [json.loads(line) for line in ended.err.splitlines()]
    kind = Interrupted if event == "interrupted" else type(error)
    assert (told["event"], told["kind"], told["exit_code"]) == (event, kind.__name__, code)
    assert (str(error) in told["message"]) == (event == "error")
    assert ("Traceback" in told.get("traceback", "")) == isinstance(error, ZeroDivisionError)


def test_a_log_format_that_there_is_not_is_refused(command: Command, pipeline_file: str) -> None:
    ended = command("run", pipeline_file, "--log", "xml")
    assert ended.code == 2
    assert "Invalid value for '--log'" in ended.err


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_130_and_tells_that_it_goes_on(pipeline_file: str, how: signal.Signals) -> None:
    """Also inside code that swallows every Exception, as exporters do."""
    script = textwrap.dedent(
        """
        import sys, time, types, contextlib
        import compresslab
        from compresslab.cli import main

        def run(*_, **__):
            print("running", flush=True)
            while True:
                with contextlib.suppress(Exception):
                    time.sleep(30)

        runner = types.ModuleType("compresslab.runner")
        runner.run = run
        sys.modules["compresslab.runner"] = compresslab.runner = runner
        main(["run", "x.yaml"])
        """
    )
    # The working directory is another one, and the package may be run from its source tree.
    environment = {**os.environ, "PYTHONPATH": str(Path(compresslab.__file__).parents[1])}
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        process.send_signal(how)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "interrupted: what is finished is kept, and the same command goes on from there\n"
