"""`backend: {tune: [...]}` from a file to a report: all are measured, one stays, and the record says why."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from compresslab import Budget, Report, load_pipeline, run
from compresslab.candidate import Step
from compresslab.digest import digest_of
from compresslab.keys import Keys
from compresslab.measure.machine import fingerprint
from compresslab.nodes import Node

pytestmark = pytest.mark.slow

TEXT = """
task: {regression: {npz: waves.npz, target_name: height}}
model: {mlp: {widths: [64, 32]}}
stages:
  - train: {epochs: 6, batch: 32, learning_rate: 0.05, precision: fp32}
  - quantize: {samples: 35, backend: {tune: [own, onnxruntime, dynamic]}}
bench: {processes: 1, min_seconds: 0.02, min_count: 20, warmup_seconds: 0.02, points: [{batch: 2}]}
budget: {spearman_drop: 0.05}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tuned")
    random = np.random.default_rng(0)
    features = random.normal(size=(700, 5)).astype(np.float32)
    np.savez(folder / "waves.npz", features=features, targets=np.tanh(features[:, 0] + features[:, 1]))
    (folder / "waves.yaml").write_text(TEXT, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def report(folder: Path) -> Report:
    return run(load_pipeline(folder / "waves.yaml"), folder / "runs" / "waves")


def test_all_are_measured_and_the_fastest_stays(report: Report) -> None:
    assert [point.stage for point in report.points] == ["baseline", "train", "quantize"]
    tuned = report.points[-1].decisions["tuned"]
    by_name = {one["backend"]: one for one in tuned["tried"]}
    assert list(by_name) == ["own", "onnxruntime", "dynamic"]
    within = {name: one["speedup"][0] for name, one in by_name.items() if one["budget"] == "pass"}
    assert tuned["chosen"] == {"backend": max(within, key=lambda name: within[name])}
    assert by_name["dynamic"]["integer_operators"] == by_name["own"]["integer_operators"] == [3, 3]
    assert any("quantize: tuning: backend own" in note and "Chosen: backend" in note for note in report.notes)


def test_the_lock_gives_the_same_choice_and_bytes_without_a_clock(report: Report, folder: Path) -> None:
    """The choice was made once; replayed beside the same store it is read, not made again."""
    again = run(load_pipeline(folder / "runs" / "waves" / "lock.yaml"), folder / "runs" / "waves")
    assert all(point.cached for point in again.points)
    assert [dict(point.artifact.sha256) for point in again.points] == [
        dict(point.artifact.sha256) for point in report.points
    ]
    kept = json.loads((folder / "runs" / "waves" / "results.json").read_text(encoding="utf-8"))
    assert kept["points"][-1]["decisions"]["tuned"] == report.points[-1].decisions["tuned"]


def test_the_lock_gives_them_beside_an_empty_store_too(
    report: Report, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is measured for the choice, which another day's clock might make otherwise."""
    monkeypatch.setattr("compresslab.runner._Run._assess", lambda *_: pytest.fail("judged again"))
    again = run(load_pipeline(folder / "runs" / "waves" / "lock.yaml"), tmp_path / "out", store=tmp_path / "store")
    assert not any(point.cached for point in again.points)
    assert [dict(point.artifact.sha256) for point in again.points] == [
        dict(point.artifact.sha256) for point in report.points
    ]
    assert again.points[-1].decisions["tuned"] == report.points[-1].decisions["tuned"]
    assert any("quantize: tuning: as the lock file says, backend" in note for note in again.notes)


def test_another_budget_is_another_choice(folder: Path) -> None:
    """The key holds what the choice depends on; a training's does not."""
    pipeline = load_pipeline(folder / "waves.yaml")
    task = pipeline.task.load(folder / "cache")
    parent = Node((Step("baseline", {}, {}, digest_of("baseline")),), folder, 0.0, cached=False)

    def keys(budget: Budget) -> list[str]:
        made = Keys(replace(pipeline, budget=budget), task, "cpu", fingerprint())
        return [made.stage(stage, parent, None) for stage in pipeline.stages]

    loose, strict = keys(Budget(spearman_drop=0.05)), keys(Budget(spearman_drop=0.001))
    assert loose[0] == strict[0]
    assert loose[1] != strict[1]
