"""The session options of a run's models: measured before the point is, in its manifest, and replayed by a lock file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from compresslab import Pipeline, Quantize, load_artifact, load_pipeline, run
from compresslab.measure.artifact import Artifact
from compresslab.measure.session import SessionOptions
from compresslab.measure.session_choice import SessionChoice, Tried
from compresslab.report import load_results

LESS = SessionOptions(graph_optimization="extended")


def quantized_alone(pipeline: Pipeline, session: SessionOptions | str) -> Pipeline:
    bench = pipeline.bench.model_copy(update={"session": session})
    return replace(pipeline, stages=(Quantize(samples=24),), references=(), bench=bench)


def sessions(out: Path) -> dict[str, str]:
    """By stage, what results.json says that the latency was measured with."""
    return {point["stage"]: point["latency_ms"][0]["session"] for point in load_results(out)["points"]}


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> list[Artifact]:
    """Stands for the clock: INT8 models are faster with one level less. Returns what was asked about."""
    asked: list[Artifact] = []

    def choose(artifact: Artifact, *_: object) -> SessionChoice:
        asked.append(artifact)
        quantized = artifact.manifest.integer_operators.eligible > 0
        speedup = (1.2, 1.1, 1.3) if quantized else (0.9, 0.8, 0.95)
        return SessionChoice(LESS if quantized else SessionOptions(), (Tried(LESS, speedup),))

    monkeypatch.setattr("compresslab.sessions.choose_session", choose)
    return asked


def test_options_are_found_by_measuring_and_deployed(copied_run, tmp_path, chosen, monkeypatch) -> None:
    report = run(quantized_alone(copied_run.pipeline, "auto"), copied_run.out)
    assert sessions(copied_run.out) == {"baseline": "default", "quantize": "graph_optimization=extended"}
    assert len(chosen) == 2, "once a model, though the baseline is measured beside the other too"
    assert load_artifact(copied_run.out).manifest.session == LESS, "the bundle, by which it is served and gated"
    quantized = report.points[-1]
    assert load_artifact(copied_run.out / "stages" / quantized.id).manifest.session == LESS
    assert quantized.decisions["session"]["tried"] == [
        {"session": "graph_optimization=extended", "speedup": [1.2, 1.1, 1.3]}
    ]
    monkeypatch.setattr("compresslab.sessions.choose_session", lambda *_: pytest.fail("chosen again"))
    again = run(load_pipeline(copied_run.out / "lock.yaml"), tmp_path / "again", store=tmp_path / "store")
    assert sessions(tmp_path / "again") == sessions(copied_run.out)
    assert [dict(point.artifact.sha256) for point in again.points] == [
        dict(point.artifact.sha256) for point in report.points
    ]


def test_options_that_are_given_hold_for_all(copied_run) -> None:
    run(quantized_alone(copied_run.pipeline, LESS), copied_run.out)
    assert set(sessions(copied_run.out).values()) == {"graph_optimization=extended"}


def test_another_bench_point_chooses_again_and_makes_nothing_anew(copied_run, chosen, monkeypatch) -> None:
    """What is trained and exported does not depend on how it is called."""
    pipeline = quantized_alone(copied_run.pipeline, "auto")
    run(pipeline, copied_run.out)
    monkeypatch.setattr("compresslab.exports.export", lambda *_, **__: pytest.fail("an artifact is in the store"))
    (point,) = pipeline.bench.points
    bench = pipeline.bench.model_copy(update={"points": (point.model_copy(update={"batch": 2}),)})
    run(replace(pipeline, bench=bench), copied_run.out)
    assert len(chosen) == 4
