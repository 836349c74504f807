"""A regression from one end to the other: features, a teacher given as arrays, every stage, and what is handed back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from compresslab import (
    BenchPoint,
    BenchSettings,
    Budget,
    Distill,
    Mlp,
    ModelSpec,
    Pipeline,
    Prune,
    Quantize,
    Regression,
    Report,
    TaskSpec,
    Train,
    dump_pipeline,
    load_artifact,
    load_pipeline,
    run,
)
from compresslab.distillation import Recipe
from compresslab.measure.evaluate import predict
from compresslab.report import load_results
from compresslab.teacher import TeacherSpec

SAMPLES = 700
CHAIN = ("baseline", "train", "distill", "prune", "quantize")
FIT = {"batch": 32, "learning_rate": 0.05, "precision": "fp32"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of features of very different sizes, a number far from zero, and what an imperfect teacher says of them."""
    folder = tmp_path_factory.mktemp("regression")
    random = np.random.default_rng(0)
    inner = random.normal(size=(SAMPLES, 5))
    features = (inner * [1.0, 100.0, 0.01, 1.0, 5.0] + [0.0, 0.0, 3.0, -50.0, 0.0]).astype(np.float32)
    truth = np.tanh(inner[:, 0] + inner[:, 1]) + 0.5 * inner[:, 2] * (inner[:, 3] > 0)
    np.savez(folder / "waves.npz", features=features, targets=300.0 + 20.0 * truth + random.normal(0, 4.0, SAMPLES))
    np.savez(folder / "teacher.npz", train=300.0 + 20.0 * truth + random.normal(0, 1.0, SAMPLES))
    return folder


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> Pipeline:
    return Pipeline(
        name="waves",
        task=TaskSpec(regression=Regression(npz=str(folder / "waves.npz"), target_name="height")),
        model=ModelSpec(mlp=Mlp(widths=(64, 32), dropout=0.05)),
        teacher=TeacherSpec(predictions=str(folder / "teacher.npz")),
        stages=[
            Train(epochs=4, **FIT),
            Distill(epochs=12, student=ModelSpec(mlp=Mlp(widths=(32, 16))), **FIT),
            Prune(ratio=0.3, round_to=4, recover=Recipe(epochs=4, **FIT)),
            Quantize(mode="qat", samples=35, qat=Recipe(epochs=1, batch=32, learning_rate=0.01, precision="fp32")),
        ],
        bench=BenchSettings(
            processes=1, min_seconds=0.02, min_count=20, warmup_seconds=0.02, points=(BenchPoint(batch=2),)
        ),
        budget=Budget(spearman=0.5, retention={"waves/spearman": 0.5}),
    )


@pytest.fixture(scope="module")
def report(pipeline: Pipeline, folder: Path) -> Report:
    return run(pipeline, folder / "runs" / "waves")


def test_every_stage_makes_a_point_that_is_measured_as_a_score(report: Report) -> None:
    assert [point.lineage for point in report.points] == [CHAIN[: end + 1] for end in range(len(CHAIN))]
    for point in report.points:
        assert list(point.measurement.quality["test"]) == ["waves/spearman"]
        assert point.measurement.retention_by_class == {}
    found = {point.stage: point.measurement.quality["test"]["waves/spearman"] for point in report.points}
    assert min(found[stage].value for stage in CHAIN[2:]) > 0.8
    assert found["distill"].low < found["distill"].value < found["distill"].high
    assert report.budget.status == "pass"


def test_retention_and_agreement_are_of_answers_that_no_onnx_file_gives(
    report: Report, pipeline: Pipeline, folder: Path
) -> None:
    """By hand, from the file: a row of the source too many, and every one of them would be another sample's answer."""
    task = pipeline.task.load(folder / "runs" / ".store" / "data")
    with np.load(folder / "teacher.npz") as arrays:
        given = {name: arrays["train"][task.splits[name].rows] for name in ("validation", "test")}
    for point in report.points[2:]:
        retention = point.measurement.retention["waves/spearman"]
        test, validation = task.splits["test"], task.splits["validation"]
        of_teacher = np.corrcoef(ranks(given["test"]), ranks(test.targets))[0, 1]
        quality = point.measurement.quality["test"]["waves/spearman"].value
        assert retention.value == pytest.approx(quality / of_teacher, rel=1e-4)
        assert retention.low < retention.value < retention.high
        answers = predict(point.artifact, validation.inputs)[:, 0]
        expected = np.corrcoef(answers, given["validation"])[0, 1]
        assert point.measurement.agreement_with_teacher == pytest.approx(expected, abs=1e-4)
        assert expected > 0.8


def ranks(values: np.ndarray) -> np.ndarray:
    return np.argsort(np.argsort(values))


def test_networks_get_smaller_and_int8_follows_its_parent(report: Report) -> None:
    sizes = {point.stage: point.artifact.bytes for point in report.points}
    assert sizes["train"] > sizes["distill"] > sizes["prune"] > sizes["quantize"]
    last = report.points[-1].measurement
    assert last.integer_operators.eligible == last.integer_operators.integer == 3
    assert last.agreement_with_parent > 0.98


def test_the_bundle_answers_in_the_units_of_the_targets(report: Report, pipeline: Pipeline, folder: Path) -> None:
    """Also under a center of 300: what a network computes in deviations is of no use to anyone."""
    bundle = load_artifact(folder / "runs" / "waves")
    manifest = bundle.manifest
    assert (manifest.target, manifest.labels, manifest.preprocessing.kind) == ("height", (), "features")
    assert [output.name for output in manifest.graphs["model"].outputs] == ["score"]
    test = pipeline.task.load(folder / "runs" / ".store" / "data").splits["test"]
    errors = predict(bundle, test.inputs)[:, 0] - test.targets
    assert np.abs(errors).mean() < 12.0, "the targets deviate by 17"
    card = (folder / "runs" / "waves" / "selected" / "README.md").read_text(encoding="utf-8")
    assert "The output is height, in the units of the training data." in card
    assert "test spearman" in (folder / "runs" / "waves" / "report.md").read_text(encoding="utf-8")
    assert load_results(folder / "runs" / "waves")["selected"] == report.selected


@pytest.mark.usefixtures("report", "nothing_may_be_made")
def test_everything_is_cached(pipeline: Pipeline, folder: Path) -> None:
    again = run(pipeline, folder / "runs" / "waves")
    assert all(point.cached for point in again.points)


def test_as_yaml_it_says_the_same(pipeline: Pipeline, tmp_path: Path) -> None:
    path = tmp_path / "waves.yaml"
    plain = json.loads(json.dumps(dump_pipeline(pipeline)))
    assert plain["model"] == {"mlp": {"widths": [64, 32], "activation": "relu", "dropout": 0.05}, "arguments": {}}
    path.write_text(yaml.safe_dump(plain), encoding="utf-8")
    assert load_pipeline(path) == pipeline
