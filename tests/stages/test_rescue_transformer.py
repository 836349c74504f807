"""`mode: auto` on a small vision transformer that calibration ruins: which step rescues it, and what is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from compresslab import (
    BenchPoint,
    BenchSettings,
    Budget,
    ImageClassification,
    ModelSpec,
    Pipeline,
    Quantize,
    TaskSpec,
    run,
)
from compresslab.candidate import TorchModel
from compresslab.distillation import Recipe, learn
from compresslab.models import architecture
from compresslab.report import Report
from compresslab.testing import context, stripes

pytestmark = pytest.mark.slow

NETWORK = "benchmarks.quantization_nets:vision_transformer"
SIZES = {"width": 24, "depth": 2, "heads": 2, "classes": 3}
ADAM = {"optimizer": "adamw", "batch": 32, "precision": "fp32", "task_weight": 1.0}
OUTLIERS = ("blocks.0.attention.out", "blocks.1.attention.out")


def with_outliers(model: TorchModel, factor: float) -> TorchModel:
    """The same function, with one channel of what attention mixes `factor` times as large as the others.

    No normalization is before the layer that reads it, so nothing can be smoothed into its weights.
    """
    with torch.no_grad():
        for name in OUTLIERS:
            attention = model.module.get_submodule(name.removesuffix(".out"))
            attention.value.weight[0] *= factor
            attention.value.bias[0] *= factor
            attention.out.weight[:, 0] /= factor
    return model


@pytest.fixture(scope="module")
def ruined(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """Trained for some seconds, then given outliers, under a budget that calibration alone misses."""
    folder = tmp_path_factory.mktemp("vit")
    np.savez(folder / "stripes.npz", allow_pickle=False, **stripes(720, 28))
    spec = TaskSpec(image_classification=ImageClassification(npz=str(folder / "stripes.npz"), name="stripes"))
    task = spec.load(folder)
    model = ModelSpec(python=NETWORK, arguments=SIZES).build(task.signature, 0)
    recipe = Recipe.model_validate({**ADAM, "epochs": 6, "learning_rate": 0.003, "kd_weight": 0.0})
    learn(model.module, recipe, context(folder, task), "train")
    architecture.save(with_outliers(model, 1000.0), folder / "checkpoint")
    bench = BenchSettings(processes=1, min_seconds=0.02, min_count=20, warmup_seconds=0.02, points=(BenchPoint(),))
    qat = Recipe.model_validate({**ADAM, "epochs": 5, "learning_rate": 0.0005, "kd_weight": 1.0})
    return Pipeline(
        name="ruined", task=spec, model=ModelSpec(python=NETWORK, checkpoint=str(folder / "checkpoint")),
        stages=[Quantize(mode="auto", samples=24, sensitivity_samples=24, correct_biases=False, qat=qat)],
        bench=bench, budget=Budget(accuracy_drop=0.08),
    )  # fmt: skip


@pytest.fixture(scope="module")
def rescued(ruined: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Path]:
    folder = tmp_path_factory.mktemp("rescued")
    return run(ruined, folder / "out"), folder / "out"


def test_the_layers_that_suffer_stay_in_float(rescued: tuple[Report, Path]) -> None:
    report, out = rescued
    _, ptq, mixed = report.points
    assert (ptq.decisions["mode"], ptq.decisions["verdict"], ptq.decisions["rescued"]) == ("ptq", "fail", False)
    assert (mixed.decisions["mode"], mixed.decisions["attempt"], mixed.decisions["rescued"]) == ("mixed", 1, True)
    assert set(mixed.decisions["keep_float"]) <= set(OUTLIERS)
    ranked = mixed.decisions["sensitivity"]
    assert {one["operator"] for one in ranked[:2]} == set(OUTLIERS)
    assert all(one["microseconds"] is not None for one in ranked), "found in the profile, though written as rows"
    kept = mixed.decisions["keep_float"]
    told = (
        f"quantize: auto: rescued by step 1, with {len(kept)} of {len(ranked)} operators in float ({', '.join(kept)})"
    )
    assert told in report.notes
    for file in ("report.md", "report.html"):
        assert "rescued by step 1, with" in (out / file).read_text(encoding="utf-8")


def test_what_stays_in_float_is_named_and_all_other_layers_are_integers(rescued: tuple[Report, Path]) -> None:
    mixed = rescued[0].points[-1]
    counted = mixed.measurement.integer_operators
    named = {one.name: one.reason for one in counted.in_float if "its weights are float" in one.reason}
    assert set(named) == set(mixed.decisions["keep_float"])
    products = 2 * SIZES["depth"]
    assert counted.eligible - counted.integer == products + len(named), "attention's products stay in float by design"


def test_training_rescues_where_no_set_of_operators_does(
    ruined: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compresslab.stages.rescue.proposals", lambda *_: ())
    report = run(ruined, tmp_path / "out")
    assert [point.decisions.get("mode") for point in report.points] == [None, "ptq", "qat"]
    last = report.points[-1].decisions
    assert (last["verdict"], last["rescued"]) == ("pass", True)
    assert "quantize: auto: rescued by step 1, training with the rounding in place" in report.notes
