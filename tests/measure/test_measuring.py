from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from compresslab.measure import measuring
from compresslab.measure.bench import BenchSettings
from compresslab.measure.evaluate import Answers, EvalSplit, predict
from compresslab.measure.measurement import Estimate, IntegerOperators
from compresslab.measure.measurement_io import from_json, to_json
from compresslab.measure.measuring import Measurer, measure
from compresslab.measure.metrics import METRICS
from compresslab.measure.quality import quality_delta
from compresslab.measure.samples import LatencySamples

if TYPE_CHECKING:
    from collections.abc import Callable

    from compresslab.measure.artifact import Artifact

    MakeArtifact = Callable[..., Artifact]
    MakeSplits = Callable[[int, int], tuple[EvalSplit, EvalSplit]]

MILLISECONDS = {"baseline": 2.0, "parent": 1.0, "this": 0.5}


class Recorder:
    """Stands for the measuring processes: latency by the artifact's folder, and what was asked for."""

    def __init__(self) -> None:
        self.compared: list[list[str]] = []
        self.weighed: list[str] = []
        self.predicted: list[tuple[str, int]] = []

    def interleaved(self, artifacts: list[Artifact], _: object, settings: BenchSettings, __: object = None) -> Any:
        self.compared.append([artifact.folder.name for artifact in artifacts])
        noise = np.exp(np.random.default_rng(0).normal(0.0, 0.01, (3, 20, 10)))
        models = tuple(
            LatencySamples(tuple((MILLISECONDS[artifact.folder.name] * 1e6 * noise).astype(np.int64)))
            for artifact in artifacts
        )
        return tuple(models for _ in settings.points)

    def peak_rss_mb(self, artifact: Artifact, *_: object) -> float:
        self.weighed.append(artifact.folder.name)
        return 50.0

    def predict(self, artifact: Artifact, inputs: np.ndarray) -> np.ndarray:
        self.predicted.append((artifact.folder.name, len(inputs)))
        return predict(artifact, inputs)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    for name in ("interleaved", "peak_rss_mb", "predict"):
        monkeypatch.setattr(measuring, name, getattr(recorder, name))
    return recorder


@pytest.fixture
def measurer(make_splits: MakeSplits) -> Measurer:
    return Measurer(make_splits(60, 90), "toy", "accuracy", BenchSettings())


@pytest.fixture
def three(
    make_artifact: MakeArtifact, right: np.ndarray, wrong_on_2: np.ndarray
) -> tuple[Artifact, Artifact, Artifact]:
    """A baseline that is always right, a parent that answers the same, and a model that knows two of three classes."""
    return make_artifact("baseline", right), make_artifact("parent", right * 2), make_artifact("this", wrong_on_2)


def test_everything_is_measured_for_real(
    make_artifact: MakeArtifact, make_splits: MakeSplits, right: np.ndarray, wrong_on_2: np.ndarray
) -> None:
    quick = BenchSettings(min_seconds=0.01, min_count=40, processes=2, warmup_seconds=0.01)
    operators = IntegerOperators(3, 2, ("head: Gemm: no integer kernel",))
    baseline, this = make_artifact("baseline", right), make_artifact("this", wrong_on_2, integer_operators=operators)
    found = measure(
        this, splits=make_splits(60, 90), benchmark="toy", metric="accuracy", bench=quick,
        parent=baseline, baseline=baseline, teacher=baseline, control=baseline,
    )  # fmt: skip
    assert {name: list(values) for name, values in found.quality.items()} == {
        "validation": ["toy/accuracy"],
        "test": ["toy/accuracy"],
    }
    assert [(latency.batch, latency.samples >= 40) for latency in found.latency] == [(1, True), (8, True)]
    assert found.peak_rss_mb > 10.0
    assert found.machine["cpu"]
    assert found.integer_operators == operators
    assert found.versus_parent is not None
    assert found.versus_parent == found.versus_baseline
    assert found.versus_control == found.versus_parent.quality_delta
    assert list(found.retention_by_class) == ["toy"]
    assert from_json(json.loads(json.dumps(to_json(found)))) == found


def test_the_figures_are_what_the_splits_say(
    recorder: Recorder, measurer: Measurer, make_splits: MakeSplits, three: tuple[Artifact, Artifact, Artifact]
) -> None:
    baseline, parent, this = three
    validation, test = make_splits(60, 90)
    known = {split.name: float((split.targets != 2).mean()) for split in (validation, test)}
    assert known["validation"] != known["test"], "the two must be told apart"
    found = measurer.measure(this, parent=parent, baseline=baseline, teacher=baseline)
    for name, n in (("validation", 60), ("test", 90)):
        estimate = found.quality[name]["toy/accuracy"]
        assert (estimate.value, estimate.n) == (pytest.approx(known[name]), n)
    assert found.retention["toy/accuracy"].value == pytest.approx(known["test"])
    assert found.validation_retention["toy/accuracy"].value == pytest.approx(known["validation"])
    assert found.agreement_with_teacher == pytest.approx(known["validation"])
    assert found.agreement_with_parent == pytest.approx(known["validation"])
    assert found.validation_delta is not None
    assert found.validation_delta.value == pytest.approx(known["validation"] - 1.0)
    for versus, speedup in ((found.versus_parent, 2.0), (found.versus_baseline, 4.0)):
        assert versus is not None
        assert versus.quality_delta.value == pytest.approx(known["test"] - 1.0)
        assert versus.quality_delta.n == 90
        assert versus.speedup.value == pytest.approx(speedup, rel=1e-3)
        assert (versus.verdict, versus.why) == ("faster", ())
        assert versus.size_ratio == pytest.approx(baseline.bytes / this.bytes)
    assert recorder.compared == [["this", "parent", "baseline"]]


def test_a_slower_stage_is_told_why(
    recorder: Recorder, measurer: Measurer, three: tuple[Artifact, Artifact, Artifact]
) -> None:
    baseline, parent, _ = three
    found = measurer.measure(baseline, parent=parent)
    assert found.versus_parent is not None
    assert found.versus_parent.verdict == "slower"
    assert found.versus_parent.why == ("it does no fewer multiply-adds: 48 for an example, against 48",)


def test_the_baseline_stands_alone(
    recorder: Recorder, measurer: Measurer, three: tuple[Artifact, Artifact, Artifact]
) -> None:
    baseline = three[0]
    found = measurer.measure(baseline, teacher=baseline)
    assert recorder.compared == [["baseline"]]
    assert (found.versus_parent, found.versus_baseline, found.validation_delta) == (None, None, None)
    assert found.agreement_with_parent is None
    assert found.agreement_with_teacher == 1.0
    assert found.retention["toy/accuracy"] == Estimate(1.0, 1.0, 1.0, 90), "it is itself, not merely like itself"


def test_a_parent_that_is_the_baseline_is_measured_once(
    recorder: Recorder, measurer: Measurer, three: tuple[Artifact, Artifact, Artifact]
) -> None:
    baseline, _, this = three
    found = measurer.measure(this, parent=baseline, baseline=baseline)
    assert recorder.compared == [["this", "baseline"]]
    assert found.versus_parent == found.versus_baseline


def test_outputs_and_memory_are_computed_once_for_each_artifact(
    recorder: Recorder, measurer: Measurer, three: tuple[Artifact, Artifact, Artifact]
) -> None:
    baseline, parent, this = three
    for _ in range(2):
        measurer.measure(parent, parent=baseline, baseline=baseline, teacher=baseline)
        measurer.measure(this, parent=parent, baseline=baseline, teacher=baseline)
    assert sorted(recorder.predicted) == sorted((name, n) for name in MILLISECONDS for n in (60, 90))
    assert recorder.weighed == ["parent", "this"]


def test_a_stage_that_looks_for_itself_never_sees_the_test_split(
    recorder: Recorder, measurer: Measurer, three: tuple[Artifact, Artifact, Artifact]
) -> None:
    baseline, parent, this = three
    found = measurer.measure(this, parent, baseline, baseline, splits=["validation"])
    assert {n for _, n in recorder.predicted} == {60}
    assert list(found.quality) == ["validation"]
    assert found.retention == found.validation_retention
    assert found.versus_baseline is not None
    assert found.versus_baseline.quality_delta == found.validation_delta


def test_classes_are_compared_with_the_teacher_on_the_readers_split(
    recorder: Recorder, measurer: Measurer, make_splits: MakeSplits, three: tuple[Artifact, Artifact, Artifact]
) -> None:
    baseline, _, this = three
    found = measurer.measure(this, baseline=baseline, teacher=baseline)
    counts = np.bincount(make_splits(60, 90)[1].targets).tolist()
    kept = found.retention_by_class["toy"]
    assert (kept.split, kept.n, kept.lost) == ("test", 90, 1)
    assert [(one.label, one.n, one.student) for one in kept.classes] == [
        ("left", counts[0], 1.0), ("middle", counts[1], 1.0), ("right", counts[2], 0.0),
    ]  # fmt: skip
    assert kept.flips.right_to_wrong == counts[2]
    chosen = measurer.measure(this, baseline=baseline, teacher=baseline, splits=["validation"])
    assert (chosen.retention_by_class["toy"].split, chosen.retention_by_class["toy"].n) == ("validation", 60)


def test_the_teacher_is_not_compared_with_itself(
    recorder: Recorder, measurer: Measurer, three: tuple[Artifact, Artifact, Artifact]
) -> None:
    baseline, parent, _ = three
    assert measurer.measure(baseline, teacher=baseline).retention_by_class == {}
    assert measurer.measure(parent, baseline=baseline).retention_by_class == {}, "there is no teacher"


def test_scores_have_no_classes(
    recorder: Recorder, make_splits: MakeSplits, three: tuple[Artifact, Artifact, Artifact]
) -> None:
    scored = [replace(split, targets=split.targets.astype(np.float32)) for split in make_splits(60, 90)]
    measurer = Measurer(scored, "toy", "spearman", BenchSettings())
    assert measurer._retention_by_class(three[2], three[0], measurer._splits["test"]) == {}


def test_a_control_is_compared_in_quality_alone(
    recorder: Recorder, measurer: Measurer, three: tuple[Artifact, Artifact, Artifact]
) -> None:
    baseline, parent, this = three
    found = measurer.measure(this, parent=baseline, baseline=baseline, control=parent)
    ours, theirs = (measurer._predicted(one, measurer._splits["test"]) for one in (this, parent))
    expected = quality_delta(METRICS["accuracy"], ours, theirs, measurer._splits["test"].targets)
    assert found.versus_control == expected
    assert expected.value < 0.0
    assert recorder.compared == [["this", "baseline"]], "its speed is that of what it is the control of"
    assert measurer.measure(this, baseline=baseline).versus_control is None


def test_f1_is_measured_too(
    recorder: Recorder, make_splits: MakeSplits, three: tuple[Artifact, Artifact, Artifact]
) -> None:
    baseline, _, this = three
    found = Measurer(make_splits(60, 90), "toy", "f1_macro", BenchSettings()).measure(this, baseline=baseline)
    delta, quality = found.validation_delta, found.quality["validation"]["toy/f1_macro"]
    assert delta is not None
    assert delta.value == pytest.approx(quality.value - 1.0)
    assert delta.low < delta.value < delta.high < 0.0


def test_a_teacher_may_be_its_answers_alone(
    recorder: Recorder, measurer: Measurer, make_splits: MakeSplits, three: tuple[Artifact, Artifact, Artifact]
) -> None:
    """The same answers give the same figures, whether a model gave them or a file did."""
    baseline, _, this = three
    splits = make_splits(60, 90)
    given = Answers("given", {split.name: predict(baseline, split.inputs) for split in splits})
    from_model, from_file = (measurer.measure(this, baseline=baseline, teacher=one) for one in (baseline, given))
    assert from_file == from_model
    assert from_file.agreement_with_teacher == pytest.approx(float((splits[0].targets != 2).mean()))


def test_answers_for_validation_alone_give_what_they_can(
    recorder: Recorder, measurer: Measurer, make_splits: MakeSplits, three: tuple[Artifact, Artifact, Artifact]
) -> None:
    baseline, _, this = three
    validation, _ = make_splits(60, 90)
    found = measurer.measure(this, teacher=Answers("x", {"validation": predict(baseline, validation.inputs)}))
    assert found.retention == {}
    assert found.validation_retention["toy/accuracy"].value == pytest.approx(float((validation.targets != 2).mean()))
    nothing = measurer.measure(this, teacher=Answers("x", {}))
    assert (nothing.validation_retention, nothing.agreement_with_teacher) == ({}, None)


def test_scores_are_measured_by_how_they_follow_their_targets(
    recorder: Recorder, make_artifact: MakeArtifact, right: np.ndarray
) -> None:
    """One output, the sum of a column; its twin in other units follows it, and its own opposite does not."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (80, 4, 4, 1), np.uint8)
    targets = (images[:, :, 1].sum(axis=(1, 2)) / 255.0 + random.normal(0.0, 0.3, 80)).astype(np.float32)
    splits = [EvalSplit(name, images, targets) for name in ("validation", "test")]
    column = right[:, 1:2]
    baseline, this = make_artifact("baseline", column), make_artifact("this", -3.0 * column)
    measurer = Measurer(splits, "toy", "pearson", BenchSettings())
    found = measurer.measure(this, baseline=baseline, teacher=baseline)
    expected = np.corrcoef(predict(baseline, images)[:, 0], targets)[0, 1]
    assert expected > 0.7
    assert found.quality["test"]["toy/pearson"].value == pytest.approx(-expected)
    assert found.validation_delta is not None
    assert found.validation_delta.value == pytest.approx(-2.0 * expected)
    assert found.agreement_with_teacher == pytest.approx(-1.0)
    assert found.retention["toy/pearson"].value == pytest.approx(-1.0)
    twin = measurer.measure(make_artifact("parent", 0.01 * column), teacher=baseline)
    assert twin.agreement_with_teacher == pytest.approx(1.0)


def test_there_must_be_a_validation_split(make_splits: MakeSplits) -> None:
    with pytest.raises(ValueError, match="there must be a split `validation`, but got test"):
        Measurer(make_splits(60, 90)[1:], "toy", "accuracy", BenchSettings())
