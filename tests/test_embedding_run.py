"""Embeddings from one end to the other: groups of features, two benchmarks, every stage, and what is handed back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from compresslab import (
    BenchPoint,
    BenchSettings,
    Budget,
    ConfigError,
    Distill,
    EmbeddingTask,
    Mlp,
    ModelSpec,
    Pipeline,
    Prune,
    Quantize,
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
from compresslab.measure.metrics import METRICS
from compresslab.report import load_results
from compresslab.testing import grouped

CHAIN = ("baseline", "train", "distill", "prune", "quantize")
KEYS = ["own/recall@10", "shop/recall@5", "human/similarity"]
FIT = {"batch": 60, "learning_rate": 0.01, "optimizer": "adamw", "precision": "fp32"}
WIDE, NARROW = 24, 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Groups to learn from, a shop with more documents than queries, and pairs whose score is how alike they are."""
    folder = tmp_path_factory.mktemp("embeddings")
    np.savez(folder / "own.npz", **grouped(groups=300))
    np.savez(folder / "shop.npz", **grouped(groups=120, seed=1))
    pairs = grouped(groups=80, seed=2)
    features = pairs["features"].reshape(80, 3, -1)
    random = np.random.default_rng(3)
    other = random.permutation(80)
    same = random.random(80) < 0.5
    second = np.where(same[:, None], features[:, 1], features[other, 1])
    both = np.stack([features[:, 0], second], axis=1).reshape(160, -1)
    np.savez(folder / "human.npz", features=both, scores=np.repeat(same + random.random(80) / 10, 2))
    return folder


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> Pipeline:
    benchmarks = {
        "shop": {"npz": str(folder / "shop.npz"), "metric": "recall@5"},
        "human": {"npz": str(folder / "human.npz"), "metric": "similarity"},
    }
    task = {"npz": str(folder / "own.npz"), "width": WIDE, "benchmarks": benchmarks}
    return Pipeline(
        name="groups",
        task=TaskSpec(embedding=EmbeddingTask.model_validate(task)),
        model=ModelSpec(mlp=Mlp(widths=(64,))),
        stages=[
            Train(epochs=10, **FIT),
            Distill(epochs=10, student=ModelSpec(mlp=Mlp(widths=(32,)), width=NARROW), control=True, **FIT),
            Prune(ratio=0.2, round_to=4, recover=Recipe(epochs=3, **FIT)),
            Quantize(mode="qat", samples=60, qat=Recipe(epochs=1, **{**FIT, "learning_rate": 0.001})),
        ],
        bench=BenchSettings(
            processes=1, min_seconds=0.02, min_count=20, warmup_seconds=0.02, points=(BenchPoint(batch=2),)
        ),
        budget=Budget(retention={"own/recall@10": 0.3, "shop/recall@5": 0.3}),
    )


@pytest.fixture(scope="module")
def report(pipeline: Pipeline, folder: Path) -> Report:
    return run(pipeline, folder / "runs" / "groups")


def test_every_stage_is_measured_on_its_own_split_and_on_every_benchmark(report: Report) -> None:
    stages = [point for point in report.points if not point.decisions.get("control")]
    assert [point.lineage for point in stages] == [CHAIN[: end + 1] for end in range(len(CHAIN))]
    for point in stages:
        measured = point.measurement
        assert list(measured.quality["validation"]) == KEYS[:1], "no decision may read a benchmark"
        assert list(measured.quality["test"]) == KEYS
        assert measured.retention_by_class == {}
        # The baseline is measured before there is a teacher.
        assert list(measured.retention) == ([] if point.stage == "baseline" else KEYS)
        if measured.versus_baseline is not None:
            assert list(measured.versus_baseline.benchmark_deltas) == KEYS[1:]
    found = {point.stage: point.measurement.quality["test"] for point in stages}
    assert found["train"]["shop/recall@5"].n == 120, "intervals are over queries"
    assert found["train"]["human/similarity"].n == 80
    for key in KEYS:
        assert found["train"][key].low > found["baseline"][key].value, "training has taught it something"
        assert found["distill"][key].low < found["distill"][key].value < found["distill"][key].high
    assert report.budget.status == "pass"


def test_the_student_is_narrower_and_still_agrees(report: Report) -> None:
    widths = {point.stage: point.artifact.manifest.embedding for point in report.points}
    assert (widths["train"], widths["distill"], widths["quantize"]) == (WIDE, NARROW, NARROW)
    last = report.points[-1].measurement
    assert last.integer_operators.eligible == last.integer_operators.integer == 2
    assert last.agreement_with_parent is not None
    assert last.agreement_with_parent > 0.9
    distilled = next(point for point in report.points if point.stage == "distill")
    assert distilled.measurement.agreement_with_teacher is not None
    assert distilled.measurement.agreement_with_teacher > 0.5
    assert 0 < distilled.decisions["explained"] <= 1


def test_an_index_is_narrower_and_the_teachers_cannot_stay(report: Report) -> None:
    by_stage = {point.stage: point.measurement for point in report.points}
    assert by_stage["distill"].against_teacher_index == {}
    index = by_stage["quantize"].index["shop/recall@5"]
    assert (index.width, index.bytes_float32, index.bytes_int8) == (NARROW, 4 * NARROW, NARROW)
    assert list(by_stage["train"].index) == KEYS[:2]


def test_the_bundle_gives_embeddings_that_are_worth_what_was_measured(
    report: Report, pipeline: Pipeline, folder: Path
) -> None:
    out = folder / "runs" / "groups"
    bundle = load_artifact(out)
    assert [output.name for output in bundle.manifest.graphs["model"].outputs] == ["embedding"]
    assert (bundle.manifest.target, bundle.manifest.labels) == (None, ())
    task = pipeline.task.load(out)
    assert report.selected is not None
    selected = report.point(report.selected)
    shop = task.benchmarks["shop"]
    value = METRICS["recall@5"].value(predict(bundle, shop.inputs), shop.targets)
    assert value == pytest.approx(selected.measurement.quality["test"]["shop/recall@5"].value)
    card = (out / "selected" / "README.md").read_text(encoding="utf-8")
    assert f"The output is an embedding of {bundle.manifest.embedding} numbers" in card
    told = (out / "report.md").read_text(encoding="utf-8")
    assert "on the worst of 2 benchmarks, " in told
    assert "No benchmark has a say in what is chosen" in told
    assert "## Index" in told
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "No benchmark has a say in what is chosen" in page
    plain = load_results(out)
    assert plain["selected"] == report.selected
    assert set(plain["points"][1]["quality"]["test"]) == set(KEYS)


@pytest.mark.usefixtures("report", "nothing_may_be_made")
def test_everything_is_cached(pipeline: Pipeline, folder: Path) -> None:
    again = run(pipeline, folder / "runs" / "groups")
    assert all(point.cached for point in again.points)


def test_a_limit_on_a_benchmark_fails_the_run_and_chooses_nothing(
    report: Report, pipeline: Pipeline, folder: Path
) -> None:
    """The same point is selected under a limit that no student keeps: a benchmark that chooses is a validation set."""
    limit = Budget(retention={"own/recall@10": 0.3, "shop/recall@5": 5.0})
    strict = run(replace(pipeline, budget=limit), folder / "runs" / "groups")
    assert strict.selected == report.selected
    assert strict.budget.status == "fail"
    assert strict.budget.violations[0].startswith("retention.shop/recall@5: at least 5, but measured ")


def test_a_benchmark_that_is_not_there_is_told_before_anything_is_trained(pipeline: Pipeline, tmp_path: Path) -> None:
    limit = Budget(retention={"shop/recall@10": 0.9})
    with pytest.raises(ConfigError, match=r"retention.shop/recall@10.*`shop/recall@5`.*did you mean `shop/recall@5`"):
        run(replace(pipeline, budget=limit), tmp_path / "runs" / "groups")


def test_as_yaml_it_says_the_same(pipeline: Pipeline, tmp_path: Path) -> None:
    path = tmp_path / "groups.yaml"
    plain = json.loads(json.dumps(dump_pipeline(pipeline)))
    assert plain["task"]["embedding"]["benchmarks"]["shop"]["metric"] == "recall@5"
    path.write_text(yaml.safe_dump(plain), encoding="utf-8")
    assert load_pipeline(path) == pipeline
