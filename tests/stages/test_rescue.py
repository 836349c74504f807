"""`mode: auto` on a network that calibration ruins: how it is rescued, what is told, and that a lock replays it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from compresslab import BenchPoint, BenchSettings, Budget, ModelSpec, Pipeline, Quantize, load_pipeline, run
from compresslab.candidate import TorchModel
from compresslab.distillation import Recipe
from compresslab.models import Signature, architecture
from compresslab.report import Report
from compresslab.testing import CLASSES

OUTLIERS = ("stages.0.0.conv1", "stages.0.0.conv2")
TRAINING = Recipe(epochs=1, batch=64, learning_rate=0.005, precision="fp32")


def with_outliers(model: TorchModel, factor: float) -> TorchModel:
    """The same function, with one channel between two layers `factor` times as large as the others.

    The range of that tensor then leaves the other channels a few steps, and so do the weights that read it.
    """
    block = model.module.get_submodule("stages.0.0")
    with torch.no_grad():
        block.norm1.weight[0] *= factor
        block.norm1.bias[0] *= factor
        block.conv2.weight[:, 0] /= factor
    return model


@pytest.fixture(scope="session")
def ruined(tiny_pipeline: Pipeline, trained_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """Quantizes a trained network with outliers by `auto`, under a budget that calibration alone misses.

    Correcting the biases would mend half of the harm.
    """
    signature = Signature("images", 1, CLASSES)
    model = with_outliers(ModelSpec(checkpoint=str(trained_checkpoint)).build(signature), 4000.0)
    folder = tmp_path_factory.mktemp("outliers")
    architecture.save(model, folder)
    bench = BenchSettings(processes=1, min_seconds=0.02, min_count=20, warmup_seconds=0.02, points=(BenchPoint(),))
    return replace(
        tiny_pipeline, model=ModelSpec(checkpoint=str(folder)), references=(), bench=bench, name="ruined",
        stages=[Quantize(mode="auto", samples=24, sensitivity_samples=24, correct_biases=False, qat=TRAINING)],
        budget=Budget(accuracy_drop=0.08),
    )  # fmt: skip


@pytest.fixture(scope="session")
def rescued(ruined: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Path]:
    folder = tmp_path_factory.mktemp("rescued")
    return run(ruined, folder / "out"), folder / "out"


def test_the_first_step_within_budget_keeps_the_suffering_operators_in_float(rescued: tuple[Report, Path]) -> None:
    """Those on both sides of the outliers and no others: one of them alone helps nothing."""
    report, _ = rescued
    baseline, ptq, mixed = report.points
    assert (ptq.decisions["mode"], ptq.decisions["verdict"], ptq.decisions["rescued"]) == ("ptq", "fail", False)
    assert (mixed.decisions["mode"], mixed.decisions["attempt"], mixed.decisions["rescued"]) == ("mixed", 1, True)
    assert tuple(mixed.decisions["keep_float"]) == OUTLIERS
    ranked = mixed.decisions["sensitivity"]
    assert {one["operator"] for one in ranked[:2]} == set(OUTLIERS)
    assert min(one["harm"] for one in ranked[:2]) > 100 * max(one["harm"] for one in ranked[2:])
    assert all(one["microseconds"] is not None for one in ranked), "sums and means are found in the profile too"
    assert mixed.budget.status == "pass"
    metric = "stripes/accuracy"
    drops = [
        baseline.measurement.quality["test"][metric].value - one.measurement.quality["test"][metric].value
        for one in (ptq, mixed)
    ]
    assert drops[0] > 0.3 > 0.05 > drops[1]


def test_what_stays_in_float_runs_in_float_and_all_else_as_integers(rescued: tuple[Report, Path]) -> None:
    """ONNX Runtime rounds float weights between quantized values by itself, unless the session says otherwise."""
    *_, mixed = rescued[0].points
    counted = mixed.measurement.integer_operators
    assert (counted.eligible, counted.integer) == (10, 8)
    assert [(one.name, one.kind, one.reason) for one in counted.in_float] == [
        (name, "Conv", "its weights are float") for name in OUTLIERS
    ]
    assert all(0 < one.share < 1 for one in counted.in_float)
    assert sum(counted.time.values()) == pytest.approx(1, abs=0.01)
    assert mixed.artifact.manifest.session.disabled_optimizers == ("WeightBiasQuantization",)
    fidelity = mixed.artifact.manifest.fidelity
    assert fidelity is not None
    assert fidelity.torch == fidelity.onnx > 0.9


def test_the_report_says_at_which_step(rescued: tuple[Report, Path]) -> None:
    report, out = rescued
    told = "quantize: auto: rescued by step 1, with 2 of 10 operators in float (stages.0.0.conv1, stages.0.0.conv2)"
    assert told in report.notes
    for file in ("report.md", "report.html"):
        text = (out / file).read_text(encoding="utf-8")
        assert "rescued by step 1, with 2 of 10 operators in float" in text
        assert "Operators in float" in text


@pytest.mark.slow
def test_the_lock_file_replays_what_was_decided_to_the_same_bytes(
    rescued: tuple[Report, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is ranked, timed or judged again: another day's clock might keep other operators in float."""
    report, out = rescued
    for name in ("Harm", "operator_times", "proposals"):
        monkeypatch.setattr(f"compresslab.stages.rescue.{name}", lambda *_: pytest.fail("decided again"))
    monkeypatch.setattr("compresslab.runner._Run._assess", lambda *_: pytest.fail("judged again"))
    again = run(load_pipeline(out / "lock.yaml"), tmp_path / "again", store=tmp_path / "store")
    assert [point.id for point in again.points] == [point.id for point in report.points]
    assert [dict(point.artifact.sha256) for point in again.points] == [
        dict(point.artifact.sha256) for point in report.points
    ]
    assert [dict(point.decisions) for point in again.points] == [dict(point.decisions) for point in report.points]


def test_a_lock_file_whose_decisions_are_of_something_else_decides_anew(
    rescued: tuple[Report, Path], tmp_path: Path
) -> None:
    """Another budget has another key; what was decided under the old one is not followed, and that is told."""
    locked = load_pipeline(rescued[1] / "lock.yaml", ["budget.accuracy_drop=0.9"])
    report = run(locked, tmp_path / "out", store=rescued[1].parent / ".store")
    assert [point.decisions.get("mode") for point in report.points] == [None, "ptq"]
    assert any("so it decides anew" in note for note in report.notes)


@pytest.mark.slow
def test_training_comes_last(ruined: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no set of operators helps enough."""
    monkeypatch.setattr("compresslab.stages.rescue.proposals", lambda *_: ())
    report = run(ruined, tmp_path / "out")
    assert [point.decisions.get("mode") for point in report.points] == [None, "ptq", "qat"]
    last = report.points[-1].decisions
    assert last["rescued"] is (last["verdict"] == "pass")
    assert any("auto: rescued by step 1, training" in note or "no attempt is within" in note for note in report.notes)


def test_costs_that_are_missed_are_not_mended_by_training(
    ruined: Pipeline, rescued: tuple[Report, Path], tmp_path: Path
) -> None:
    """Hours of training would not make the file smaller."""
    report = run(replace(ruined, budget=Budget(bytes=10)), tmp_path / "out", store=rescued[1].parent / ".store")
    assert [point.decisions.get("mode") for point in report.points] == [None, "ptq"]
    assert any("only costs are over the budget" in note for note in report.notes)
