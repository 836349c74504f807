"""Peers, a choice and controls through a whole run: what goes on, what is told, what is found again, what replays."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import yaml

from compresslab import Pipeline, Report, Store, load_pipeline, plan, run
from compresslab.report import load_results
from compresslab.stages import Tuned
from compresslab.testing import stripes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

PEER = {"residual": {"widths": [8]}}
FIT = {"batch": 56, "precision": "fp32"}


@dataclass(frozen=True)
class Ran:
    """A run from a file, and what its plan said before."""

    path: Path
    out: Path
    pipeline: Pipeline
    planned: list[tuple[str, bool]]
    report: Report


@pytest.fixture(scope="module")
def ran(trained_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    folder = tmp_path_factory.mktemp("peers")
    np.savez(folder / "stripes.npz", **stripes())
    document = {
        "task": {"image_classification": {"npz": "stripes.npz", "name": "stripes"}},
        "model": {"checkpoint": str(trained_checkpoint)},
        "stages": [
            {"mutual": {**FIT, "epochs": 2, "peers": [PEER, PEER], "keep": "all"}},
            {"distill": {
                **FIT, "epochs": 4, "views": 1, "control": True, "kd_weight": 0.5, "task_weight": 0.5,
                "learning_rate": {"tune": [1e-6, 0.1]},
            }},
        ],
        "bench": {
            "processes": 1, "min_seconds": 0.02, "min_count": 20, "warmup_seconds": 0.02, "points": [{"batch": 1}],
        },
    }  # fmt: skip
    path = folder / "peers.yaml"
    path.write_text(yaml.safe_dump(document))
    pipeline = load_pipeline(path)
    out = folder / "runs" / "peers"
    planned = [(line.stage, line.cached) for line in plan(pipeline, out)]
    return Ran(path, out, pipeline, planned, run(pipeline, out))


def test_peers_are_points_and_so_are_students_with_their_controls(ran: Ran) -> None:
    """Seven: the baseline, two peers, and of each a student and its control; what starts from a control is none."""
    points = load_results(ran.out)["points"]
    lineages = Counter(tuple(point["lineage"]) for point in points)
    assert lineages == {
        ("baseline",): 1, ("baseline", "mutual"): 2, ("baseline", "mutual", "distill"): 4,
    }  # fmt: skip
    assert len({point["id"] for point in points}) == 7
    peers = [point["decisions"] for point in points if point["stage"] == "mutual"]
    assert [one["peer"] for one in peers] == [0, 1]
    best = max(peers, key=lambda one: one["validation"])
    assert [one["best"] for one in peers] == [one is best for one in peers]
    measured = [
        point["quality"]["validation"]["stripes/accuracy"]["value"] for point in points if point["stage"] == "mutual"
    ]
    assert [one["validation"] for one in peers] == pytest.approx(measured, abs=1e-6)


def test_a_student_is_held_against_its_own_control(ran: Ran) -> None:
    points = [point for point in load_results(ran.out)["points"] if point["stage"] == "distill"]
    assert [point["decisions"].get("control", False) for point in points] == [False, True] * 2
    for student, control in (points[:2], points[2:]):
        assert control["versus_control"] is None
        difference = [
            point["quality"]["test"]["stripes/accuracy"]["value"] for point in (student, control)
        ]  # fmt: skip
        versus = student["versus_control"]
        assert versus["value"] == pytest.approx(difference[0] - difference[1], abs=1e-6)
        assert versus["low"] <= versus["value"] <= versus["high"]


def test_what_was_tried_is_told_and_the_better_value_chosen(ran: Ran) -> None:
    for point in load_results(ran.out)["points"]:
        if point["stage"] != "distill":
            continue
        tuned = point["decisions"]["tuned"]
        assert [one["learning_rate"] for one in tuned["tried"]] == [1e-6, 0.1]
        assert [one["epochs"] for one in tuned["tried"]] == [1, 1]
        chosen = max(tuned["tried"], key=lambda one: one["validation"])
        assert tuned["chosen"] == {"learning_rate": chosen["learning_rate"]}
        assert point["settings"]["learning_rate"] == chosen["learning_rate"]


def test_the_report_has_the_checks_of_each_stage(ran: Ran) -> None:
    """A control was run and the temperature not chosen; four epochs leave most of the teacher unexplained or not."""
    told = (ran.out / "report.md").read_text()
    checks = told[told.index("## Checks") :]
    assert "### distill" in checks
    assert "was not tuned" in checks
    assert "no control arm was run" not in checks
    decisions = [point["decisions"] for point in load_results(ran.out)["points"]]
    explained = [one["explained"] for one in decisions if "explained" in one]
    assert len(explained) == 2
    assert ("capacity gap" in checks) == (min(explained) < 0.8)


def test_what_was_not_done_is_told(ran: Ran, tmp_path: Path) -> None:
    """Without a control, and with a student that has no time to learn anything."""
    document = yaml.safe_load(ran.path.read_text())
    document["stages"] = [{"distill": {**FIT, "epochs": 1, "learning_rate": 1e-6, "student": PEER}}]
    path = ran.path.with_name("hasty.yaml")
    path.write_text(yaml.safe_dump(document))
    out = tmp_path / "hasty"
    run(load_pipeline(path), out, store=ran.out.parent / ".store")
    checks = (out / "report.md").read_text().partition("## Checks")[2]
    for told in ("no control arm was run", "temperature: 4", "was not tuned", "capacity gap: on the training samples"):
        assert told in checks


def test_the_plan_before_and_after(ran: Ran, nothing_may_be_made: None) -> None:
    assert ran.planned == [("baseline", False), ("mutual", False), ("distill", False), ("distill", False)]
    lines = plan(ran.pipeline, ran.out)
    assert [(line.stage, line.cached) for line in lines] == [(stage, True) for stage, _ in ran.planned]
    assert all(line.seconds is not None and line.seconds > 0 for line in lines)
    assert all(point.cached for point in run(ran.pipeline, ran.out).points)


def test_the_best_of_the_peers_alone_goes_on_where_that_is_asked(ran: Ran, tmp_path: Path) -> None:
    """Its distillation is cached: which peer that is, is known from what the stage decided."""
    best = ran.pipeline.stages[0].model_copy(update={"keep": "best"})
    pipeline = Pipeline(**{**ran.pipeline.__dict__, "stages": [best, *ran.pipeline.stages[1:]]})
    lines = plan(pipeline, ran.out)
    assert [(line.stage, line.cached) for line in lines] == [("baseline", True), ("mutual", False), ("distill", False)]
    report = run(pipeline, tmp_path / "best", store=ran.out.parent / ".store")
    peers = [point.decisions for point in report.points if point.stage == "mutual"]
    assert [point.lineage for point in report.points].count(("baseline", "mutual", "distill")) == 2
    followed = next(point for point in report.points if point.stage == "distill")
    kept = next(point for point in load_results(ran.out)["points"] if point["decisions"].get("best"))
    assert [one["best"] for one in peers].index(True) == kept["decisions"]["peer"]
    assert followed.artifact.sha256 in [
        dict(point["artifact"]["sha256"]) for point in load_results(ran.out)["points"] if point["stage"] == "distill"
    ]  # fmt: skip
    after = plan(pipeline, tmp_path / "best", store=ran.out.parent / ".store")
    assert [line.cached for line in after] == [True, True, True]


def answers(store: Path) -> dict[str, datetime]:
    """When each of the teacher's answers was written."""
    return {entry.key: entry.created for entry in Store(store).entries() if entry.kind == "teacher"}


def test_the_lock_file_replays_choices_peers_and_controls_to_the_same_bytes(ran: Ran, tmp_path: Path) -> None:
    """It keeps what was to be chosen from, and chooses again; also what `fresh` makes anew is the same."""
    locked = load_pipeline(ran.out / "lock.yaml")
    assert locked == ran.pipeline
    assert isinstance(locked.stages[1], Tuned)
    teacher = answers(ran.out.parent / ".store")
    assert teacher
    again = run(locked, tmp_path / "again", store=ran.out.parent / ".store", fresh=True)
    assert not any(point.cached for point in again.points)
    first = {point.id: dict(point.artifact.sha256) for point in ran.report.points}
    assert {point.id: dict(point.artifact.sha256) for point in again.points} == first
    decisions = [point["decisions"] for point in load_results(ran.out)["points"]]
    assert [point["decisions"] for point in load_results(tmp_path / "again")["points"]] == decisions
    renewed = answers(ran.out.parent / ".store")
    assert renewed.keys() >= teacher.keys()
    assert all(renewed[key] > created for key, created in teacher.items()), "the teacher's answers are made again too"
