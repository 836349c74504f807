"""Teachers: whom a run learns from, and that its results are held against that very teacher."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from compresslab import (
    Distill,
    ImageClassification,
    ModelSpec,
    Pipeline,
    Residual,
    TaskSpec,
    TeacherSpec,
    run,
)
from compresslab.measure.evaluate import predict
from compresslab.models import architecture
from compresslab.progress import Silent
from compresslab.report import Report, load_results
from compresslab.store import Store
from compresslab.teacher import NetworkTeacher
from compresslab.teachers import Teachers

NAME = "stripes/accuracy"


@dataclass(frozen=True)
class Given:
    """A pipeline on the tiny task as it is, and predictions for all its images in their own order."""

    pipeline: Pipeline
    images: np.ndarray
    labels: np.ndarray
    truth: Path
    """Predictions that are right for every image: whoever takes them for other images is wrong on two of three."""
    wrong: Path
    """Predictions that are wrong for every image."""
    store: Path
    """Shared by all runs, so that `model` is exported once."""


@pytest.fixture(scope="module")
def given(tiny_pipeline, stripes_file, tmp_path_factory) -> Given:
    with np.load(stripes_file) as arrays:
        images, labels = arrays["images"], arrays["labels"]
    folder = tmp_path_factory.mktemp("predictions")
    np.savez(folder / "truth.npz", train=(6 * np.eye(3))[labels])
    np.savez(folder / "wrong.npz", train=(6 * np.eye(3))[(labels + 1) % 3])
    plain = TaskSpec(image_classification=ImageClassification(npz=str(stripes_file), name="stripes"))
    student = ModelSpec(residual=Residual(widths=(8,)))
    pipeline = replace(
        tiny_pipeline, task=plain, stages=[Distill(epochs=1, batch=64, student=student)], references=(), budget=None
    )
    return Given(pipeline, images, labels, folder / "truth.npz", folder / "wrong.npz", folder / ".store")


@pytest.fixture(scope="module")
def task(given, tmp_path_factory):
    return given.pipeline.task.load(tmp_path_factory.mktemp("cache"))


def teachers(given: Given, task, folder: Path, teacher: TeacherSpec | None, progress=None) -> Teachers:
    pipeline = replace(given.pipeline, teacher=teacher)
    baseline = pipeline.model.build(task.signature)
    return Teachers(
        pipeline, baseline, lambda spec: spec.build(task.signature), task, Store(folder), "cpu", progress or Silent()
    )


def logits(checkpoint: ModelSpec, task, split: str) -> np.ndarray:
    """What the network itself says, in full arithmetic."""
    inputs = task.batch(split, np.arange(len(task.splits[split].inputs)), None)
    with torch.no_grad():
        return checkpoint.build(task.signature).module(torch.from_numpy(inputs)).numpy()


# -- who it is -------------------------------------------------------------------------------------------------------


def test_the_model_is_the_teacher_unless_another_is_given(given, task, tmp_path):
    own = teachers(given, task, tmp_path, None)
    assert isinstance(own.given, NetworkTeacher)
    assert own.given.digest == architecture.digest(given.pipeline.model.build(task.signature))
    truth = TeacherSpec(predictions=str(given.truth))
    assert teachers(given, task, tmp_path, truth).given.digest != own.given.digest
    new = replace(given, pipeline=replace(given.pipeline, model=ModelSpec(residual=Residual(widths=(8,))), stages=()))
    assert teachers(new, task, tmp_path, None).given is None, "what has no weights teaches nothing"


# -- what it answers where results are reported ----------------------------------------------------------------------


@pytest.mark.parametrize("weights", [(1.0, 1.0), (3.0, 1.0)])
def test_answers_of_an_average_are_its_own_in_full_arithmetic(given, task, tmp_path, weights):
    checkpoint = given.pipeline.model
    average = TeacherSpec(
        average=(
            TeacherSpec(checkpoint=checkpoint.checkpoint, weight=weights[0]),
            TeacherSpec(predictions=str(given.truth), weight=weights[1]),
        )
    )
    found = teachers(given, task, tmp_path, average)
    answers = found.answers(("validation", "test"))
    assert set(answers.outputs) == {"validation", "test"}
    for split, outputs in answers.outputs.items():
        truth = 6 * np.eye(3)[task.splits[split].targets]
        expected = (weights[0] * logits(checkpoint, task, split) + weights[1] * truth) / sum(weights)
        assert outputs.dtype == np.float32
        np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-4)
    assert answers.digest == found.given.digest
    assert found.answers(("validation", "test")) is answers, "asked once a run"


def test_answers_of_the_best_are_the_best_ones(given, task, tmp_path):
    truth = TeacherSpec(predictions=str(given.truth))
    wrong = TeacherSpec(predictions=str(given.wrong))
    progress = Silent()
    found = teachers(given, task, tmp_path, TeacherSpec(best_of=(wrong, truth)), progress).answers(("test",))
    assert (found.outputs["test"].argmax(axis=1) == task.splits["test"].targets).all()
    assert progress.notes[0] == "teacher: number 2 of 2 is the best on validation (0.0000, 1.0000)"


# -- a run -----------------------------------------------------------------------------------------------------------


def accuracy(report: Report, stage: str, task, split: str) -> float:
    (point,) = (point for point in report.points if point.stage == stage)
    part = task.splits[split]
    return float((predict(point.artifact, part.inputs).argmax(axis=1) == part.targets).mean())


@pytest.mark.parametrize("kind", ["predictions", "average", "best_of"])
def test_results_are_held_against_the_teacher_that_is_no_network(given, task, tmp_path, kind, request):
    """It is right on every image, so a model agrees with it where it is right itself, and retains its own accuracy."""
    truth = TeacherSpec(predictions=str(given.truth))
    wrong = TeacherSpec(predictions=str(given.wrong))
    network = TeacherSpec(checkpoint=given.pipeline.model.checkpoint, weight=0.1)
    teacher = {
        "predictions": truth, "average": TeacherSpec(average=(network, truth)),
        "best_of": TeacherSpec(best_of=(wrong, truth)),
    }[kind]  # fmt: skip
    pipeline = replace(given.pipeline, teacher=teacher)
    first = run(pipeline, tmp_path / "out", store=given.store)
    assert [point.stage for point in first.points] == ["baseline", "distill"]
    for point in first.points:
        measured = point.measurement
        assert measured.agreement_with_teacher == pytest.approx(accuracy(first, point.stage, task, "validation"))
        assert measured.retention[NAME].value == pytest.approx(accuracy(first, point.stage, task, "test"))
        assert measured.validation_retention[NAME].value == pytest.approx(measured.agreement_with_teacher)
        kept = measured.retention_by_class["stripes"]
        assert [one.label for one in kept.classes] == list(task.labels)
        assert all(one.teacher == 1.0 for one in kept.classes)
    told = load_results(tmp_path / "out")["points"][1]
    assert told["retention"][NAME]["value"] == pytest.approx(first.points[1].measurement.retention[NAME].value)
    assert any("is the best on validation" in note for note in first.notes) == (kind == "best_of")
    request.getfixturevalue("nothing_may_be_made")
    again = run(pipeline, tmp_path / "out", store=given.store)
    assert all(point.cached for point in again.points)
    assert [point.measurement for point in again.points] == [point.measurement for point in first.points]


def test_other_predictions_are_held_against_anew_and_nothing_else_is_made(given, tmp_path):
    pipelines = [
        replace(given.pipeline, stages=(), teacher=TeacherSpec(predictions=str(path)))
        for path in (given.truth, given.wrong)
    ]
    first, second = (run(pipeline, tmp_path / "out", store=given.store) for pipeline in pipelines)
    shares = [report.points[0].measurement.agreement_with_teacher for report in (first, second)]
    assert shares[0] > 0.9
    assert shares[1] < 0.1
    assert first.points[0].artifact.sha256 == second.points[0].artifact.sha256
