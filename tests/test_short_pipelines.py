"""The pipelines that run on packages, with little data and little training: what must hold however well they learned.

Data and models are fetched once, into `$COMPRESSLAB_DATA/packages` or `runs/.packages`, and all tests use the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from benchmarks.cross_modal import SHOWN, taught_by
from benchmarks.short import PIPELINES, SHORT
from compresslab import load_artifact, load_pipeline, run
from compresslab.bundle.verifying import verify
from compresslab.measure.budget import too_loud
from compresslab.measure.evaluate import answers
from compresslab.measure.subject import made_up_samples
from compresslab.report import load_results
from compresslab.user_code import call

if TYPE_CHECKING:
    from collections.abc import Sequence

    from compresslab import Pipeline, Report

WAYS = ("", "/text_to_image", "/image_to_text")
EMOJI = {f"{name}{way}/recall@10" for name in ("emoji", "vendor", "vendor_test") for way in WAYS}
PACKAGES = {"packages/recall@1", "news/recall@1", "reviews/recall@1"}
PACKAGES |= {"news_sentences/recall@10", "review_sentences/recall@10"}
PACKAGES |= {f"{name}/similarity" for name in ("simlex", "wordsim", "lee")}
JUDGED = ("news", "reviews", "news_sentences", "review_sentences", "lee")
ON_PACKAGES = [path.stem for path in sorted(PIPELINES.glob("*.yaml")) if "package_data." in path.read_text("utf-8")]


@dataclass(frozen=True)
class Ran:
    """A pipeline in its short version, and what became of it."""

    pipeline: Pipeline
    out: Path
    report: Report

    @property
    def points(self) -> list[dict[str, Any]]:
        """Those of results.json."""
        found: list[dict[str, Any]] = load_results(self.out)["points"]
        return found


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all of them run: with one store, as anybody's are in `runs`."""
    return tmp_path_factory.mktemp("runs")


def ran(runs: Path, name: str, *overrides: str) -> Ran:
    pipeline = load_pipeline(PIPELINES / f"{name}.yaml", [*SHORT[name], *overrides])
    return Ran(pipeline, runs / name, run(pipeline, runs / name))


def assert_complete(made: Ran, stages: Sequence[str], keys: set[str], teacher: int = 0) -> None:
    """Every stage ran and left a model that ONNX Runtime runs, with all of its figures; a second run makes nothing.

    Args:
        made: What ran.
        stages: Of its points, in their order.
        keys: Of its figures, all of which are told on test, and what is kept of the teacher's.
        teacher: The number of the point that the others are held against.
    """
    points = made.points
    assert [point["stage"] for point in points] == list(stages)
    towers = made.pipeline.model.towers
    for number, point in enumerate(points):
        assert set(point["artifact"]["graphs"]) == (set(towers) or {"model"})
        artifact = load_artifact(made.out / "stages" / point["id"])
        for graph in artifact.graphs:
            outputs = answers(artifact, graph, made_up_samples(artifact.manifest.preprocessing_of(graph)))
            assert outputs.std(axis=0).max() > 0, "it answers the same to everything"
        assert point["artifact"]["bytes"] == sum(
            (made.out / file).stat().st_size for file in point["artifact"]["graphs"].values()
        )
        assert set(point["quality"]["test"]) == keys
        for told in (point["quality"]["test"], point["retention"] if number > teacher else {}):
            assert all(one["low"] <= one["value"] <= one["high"] for one in told.values())
        assert all(one["n"] > 1 for one in point["quality"]["test"].values())
        if number >= teacher:
            assert set(point["retention"]) == keys, "retention is told for each benchmark"
        bench = made.pipeline.bench.points
        graphs = [one.graph for one in bench]
        together = [" + ".join(dict.fromkeys(graphs))] if towers else []
        assert [one["graph"] for one in point["latency_ms"]] == [*together, *graphs]
        assert [one["inputs"] for one in point["latency_ms"][len(together) :]] == [one.inputs for one in bench]
        assert all(0 < one["p50_low"] <= one["p50"] <= one["p50_high"] for one in point["latency_ms"])
        assert (number == 0) == (point["versus_baseline"] is None)
    speedup = points[-1]["versus_baseline"]["speedup"]
    assert 0 < speedup["low"] <= speedup["value"] <= speedup["high"]
    for name in ("results.json", "report.md", "report.html", "lock.yaml"):
        assert (made.out / name).is_file()

    again = run(made.pipeline, made.out)
    # What a loud machine left open is measured again, and nothing else.
    budget = made.pipeline.budget
    loud = [too_loud(budget, point.measurement, point.artifact.bytes) for point in made.report.points]
    assert [point.cached for point in again.points] == [not one for one in loud]
    assert [point.artifact.sha256 for point in again.points] == [point.artifact.sha256 for point in made.report.points]


def words(texts: Sequence[str]) -> set[str]:
    """Texts without what nobody would call a difference."""
    return {" ".join(text.casefold().split()) for text in texts}


@pytest.mark.parametrize("name", ON_PACKAGES)
def test_has_a_short_version_that_is_a_pipeline(name: str) -> None:
    """A key that a pipeline has no more would be found here, and not only where everything is fetched."""
    short = load_pipeline(PIPELINES / f"{name}.yaml", SHORT[name])
    whole = load_pipeline(PIPELINES / f"{name}.yaml")
    assert [stage.kind for stage in short.stages] == [stage.kind for stage in whole.stages]
    assert [stage.kind for stage in short.references] == [stage.kind for stage in whole.references]
    assert (short.model, short.budget, short.bench.points) == (whole.model, whole.budget, whole.bench.points)
    assert short.task != whole.task, "it takes fewer data"


def test_there_are_no_other_short_versions() -> None:
    assert set(SHORT) == set(ON_PACKAGES)


@pytest.mark.slow
def test_sentiment(runs: Path) -> None:
    """The teacher's pipeline is the first stage of the student's, to the byte: that one trains it no more."""
    teacher = ran(runs, "sentiment_teacher")
    assert_complete(teacher, ["baseline", "train"], {"movies/pearson"}, teacher=1)
    assert verify(teacher.out).checks
    student = ran(runs, "sentiment_regression")
    assert [point.cached for point in student.report.points] == [True, True, False, False]
    assert_complete(student, ["baseline", "train", "distill", "quantize"], {"movies/pearson"}, teacher=1)
    assert verify(student.out).checks
    assert student.points[-1]["versus_baseline"]["size_ratio"] > 8
    assert student.points[-1]["integer_operators"]["integer"] > 0


@pytest.mark.slow
def test_minilm_retrieval(runs: Path) -> None:
    made = ran(runs, "minilm_retrieval")
    assert_complete(made, ["baseline", "quantize", "quantize", "distill", "distill", "quantize"], PACKAGES)
    assert made.points[-1]["versus_baseline"]["size_ratio"] > 14
    assert made.points[-1]["integer_operators"]["integer"] > 0
    assert [point["reference"] for point in made.points] == [False, True, True, True, False, False]


@pytest.mark.slow
def test_nothing_that_texts_are_judged_by_is_trained_on() -> None:
    """Of the whole pipeline, of which the short version takes a part; not in other letters either."""
    module = PIPELINES / "package_data" / "retrieval.py"
    found = call(f"{module}:packages", {})
    trained = words(found["texts"])
    assert len(trained) > 200_000
    judged = {name: call(f"{module}:{name}", {})["texts"] for name in JUDGED}
    judged |= {split: found[f"{split}_texts"] for split in ("validation", "test")}
    assert {name: words(texts) & trained for name, texts in judged.items()} == {name: set() for name in judged}


@pytest.mark.slow
def test_emoji(runs: Path) -> None:
    """Teacher and student: in the teacher's runs MiniLM stays, and what it made is the student's teacher."""
    teacher = ran(runs, "emoji_teacher")
    assert_complete(teacher, ["baseline", "train"], EMOJI, teacher=1)
    assert verify(teacher.out).checks
    (before, after) = (point["artifact"]["sha256"] for point in teacher.points)
    assert before["text"] == after["text"], "an index of texts stays valid"
    assert before["image"] != after["image"]

    student = ran(runs, "emoji_retrieval", *taught_by(teacher.report))
    assert_complete(student, ["baseline", "distill", "prune", "quantize"], EMOJI)
    sha256 = [point["artifact"]["sha256"] for point in student.points]
    assert sha256[0] == after, "the student's teacher is what was trained, in both towers"
    assert all(one["image"] != other["image"] for one, other in pairwise(sha256))
    assert [one["text"] != other["text"] for one, other in pairwise(sha256)] == [True, True, True]
    assert student.points[-1]["versus_baseline"]["size_ratio"] > 8
    assert student.points[-1]["integer_operators"]["integer"] > 0
    assert set(SHOWN) <= set(student.points[-1]["retention"]), "the benchmark's table shows what is told"


@pytest.mark.slow
def test_held_out_vendor_and_concepts_are_in_no_training_data(tmp_path: Path) -> None:
    """Of the whole pipelines: in the source, and in what the task makes of it."""
    module = PIPELINES / "package_data" / "emoji_pairs.py"
    found = call(f"{module}:pairs", {})
    groups = {prefix: set(found[f"{prefix}image_groups"].tolist()) for prefix in ("", "validation_", "test_")}
    assert [len(one) > 100 for one in groups.values()] == [True, True, True]
    assert not groups[""] & (groups["validation_"] | groups["test_"])
    vendor, fresh = found["benchmarks"]["vendor"], found["benchmarks"]["vendor_test"]
    assert set(fresh["image_groups"].tolist()) <= groups["test_"]

    pipeline = load_pipeline(PIPELINES / "emoji_retrieval.yaml")
    task = pipeline.task.load(tmp_path, pipeline.model)
    assert set(task.benchmarks) == {key.rpartition("/")[0] for key in EMOJI} - {"emoji"}
    image, text = task.towers["image"], task.towers["text"]
    pictures = {one.tobytes() for split in ("train", "calibration") for one in np.asarray(image.splits[split].inputs)}
    texts = words([one for split in ("train", "calibration", "transfer") for one in text.splits[split].inputs.tolist()])
    assert not pictures & {one.tobytes() for one in vendor["images"]}
    for split in ("validation", "test"):
        parts = task.splits[split].inputs.parts
        assert not pictures & {one.tobytes() for one in np.asarray(parts["image"])}
        assert not texts & words(parts["text"].tolist())
    assert not texts & words(fresh["texts"])
