"""distill and train: the control beside the student, what is told of it, and a training that is begun and judged."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compresslab.candidate import Candidate
from compresslab.distillation import control_of, learn, validation_score
from compresslab.errors import ModelError
from compresslab.models import architecture
from compresslab.nodes import Node
from compresslab.stage import Context
from compresslab.stages import Distill, Train
from compresslab.tasks import ImageClassification, Task, TaskSpec
from compresslab.testing import context, stripes, tiny_candidate, tiny_task

STUDENT = {"residual": {"widths": [8]}}


def distill(**settings: Any) -> Distill:
    return Distill.model_validate({"epochs": 1, "batch": 64, "views": 1, "precision": "fp32", **settings})


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    return tiny_task(tmp_path_factory.mktemp("task"))


@pytest.fixture
def given(task, tmp_path) -> Callable[..., Context]:
    """A context of its own scratch folder, with a teacher."""

    def make(name: str = "one") -> Context:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        return context(folder, task, tiny_candidate((16, 16), seed=1).network)

    return make


def weights(candidate: Candidate) -> str:
    return architecture.digest(candidate.network)


# -- the control -----------------------------------------------------------------------------------------------------


def test_the_control_is_the_same_student_trained_without_the_teacher(given, task) -> None:
    """From the same first weights; and the student is what it is without a control."""
    stage = distill(student=STUDENT, control=True, epochs=2)
    student, control = stage.apply(tiny_candidate(), given())
    (alone,) = distill(student=STUDENT, epochs=2).apply(tiny_candidate(), given("without"))
    assert weights(student) == weights(alone)
    made = given("by hand")
    network = stage.start(tiny_candidate(), made).module
    learn(network, control_of(stage.recipe, made), replace(made, teacher=None), "control")
    state = control.network.module.state_dict()
    assert all((value == state[name]).all() for name, value in network.state_dict().items())


def test_a_control_is_marked_and_a_candidate_of_its_own(given) -> None:
    student, control = distill(student=STUDENT, control=True).apply(tiny_candidate(), given())
    nodes = [Node(one.lineage, Path(), 0.0, cached=False) for one in (student, control)]
    assert [node.control for node in nodes] == [False, True]
    assert [node.kind for node in nodes] == ["distill", "distill"]
    assert nodes[0].digest != nodes[1].digest
    assert set(control.lineage[-1].decisions) == {"control", "loss"}
    assert control.lineage[-1].settings == student.lineage[-1].settings


def test_a_control_goes_on_where_it_was_killed_without_training_the_student_again(given, monkeypatch) -> None:
    stage = distill(student=STUDENT, control=True, epochs=2)
    expected = [weights(one) for one in stage.apply(tiny_candidate(), given("whole"))]
    made = given("killed")
    phases: list[str] = []

    class Killed(Exception):
        pass

    class Watch(type(made.progress)):
        kill = True

        def start(self, phase: str, total: int) -> None:
            self.phase = phase

        def advance(self, steps: int = 1, **values: float) -> None:
            phases.append(f"{self.phase} {int(values.get('epoch', 0))}")
            if self.kill and phases[-1] == "control 2":
                raise Killed("in the control")

    watch = Watch()
    with pytest.raises(Killed, match="in the control"):
        stage.apply(tiny_candidate(), replace(made, progress=watch))
    phases.clear()
    watch.kill = False
    resumed = stage.apply(tiny_candidate(), replace(made, progress=watch))
    assert [weights(one) for one in resumed] == expected
    assert set(phases) == {"distill 0", "control 0", "control 2"}, "0 is what the checkpoint has"


# -- what is told ----------------------------------------------------------------------------------------------------

NO_CONTROL = "no control arm was run"
UNTUNED = "`temperature: 4` was not tuned"


def told(stage: Distill, made: Context) -> list[str]:
    stage.apply(tiny_candidate(), made)
    return made.progress.notes


@pytest.mark.parametrize(
    ("settings", "tuned", "expected"),
    [
        ({}, (), {NO_CONTROL, UNTUNED}),
        ({}, ("learning_rate",), {NO_CONTROL, UNTUNED}),
        ({}, ("temperature",), {NO_CONTROL}),
        ({"control": True}, (), {UNTUNED}),
        ({"control": True}, ("temperature",), set()),
        ({"losses": [{"dist": {}}]}, (), {NO_CONTROL}),
    ],
)
def test_what_was_not_tried_is_told(given, monkeypatch, settings, tuned, expected) -> None:
    monkeypatch.setattr("compresslab.stages.distill.learn", lambda *_, **__: ())
    notes = told(distill(**settings), replace(given(), tuned=frozenset(tuned)))
    found = {text for text in (NO_CONTROL, UNTUNED) if any(note.startswith(text) for note in notes)}
    assert found == expected


def test_a_student_far_from_its_teacher_is_told(given) -> None:
    """One epoch is not enough; the share that is told is the one that is kept."""
    made = given()
    (student,) = distill(learning_rate=1e-4).apply(tiny_candidate(), made)
    explained = student.lineage[-1].decisions["explained"]
    assert explained < 0.8
    gap = f"capacity gap: on the training samples the student reproduces only {max(explained, 0):.0%} of"
    assert any(note.startswith(gap) for note in made.progress.notes)


def test_without_weight_on_the_teacher_it_is_not_asked_and_nothing_is_told_of_it(given) -> None:
    """A distil stage of a control arm: what it would say of temperature and capacity would be wrong."""
    silent = type("Silent", (), {"answers": lambda *_, **__: pytest.fail("asked"), "digest": "silent"})()
    made = replace(given(), teacher=silent)
    (student,) = distill(kd_weight=0.0).apply(tiny_candidate(), made)
    assert made.progress.notes == []
    assert set(student.lineage[-1].decisions) == {"loss"}


def test_without_a_teacher_there_is_nothing_to_distil(given) -> None:
    with pytest.raises(ModelError, match="`distill` has no teacher; give `teacher`, or weights for `model`"):
        distill().apply(tiny_candidate(), replace(given(), teacher=None))


def test_unlabelled_samples_count_as_transfer_data(tmp_path) -> None:
    """End to end: a task of few samples is told, and one that unlabelled samples are added to is not."""
    np.savez(tmp_path / "few.npz", **stripes(200))
    np.savez(tmp_path / "more.npz", images=stripes(100, seed=7)["images"])
    for transfer, expected in ((None, True), (str(tmp_path / "more.npz"), False)):
        data = ImageClassification(npz=str(tmp_path / "few.npz"), transfer=transfer)
        task = TaskSpec(image_classification=data).load(tmp_path)
        made = context(tmp_path / str(expected), task, tiny_candidate((16, 16), seed=1).network)
        notes = told(distill(batch=32), made)
        assert any(note.startswith("little transfer data") for note in notes) is expected


# -- begun, judged, and gone on with ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "stage",
    [
        distill(epochs=3, student=STUDENT, ema=0.9),
        Train(epochs=3, batch=64, precision="fp32"),
    ],
)
def test_what_is_begun_is_gone_on_with_to_the_same_bytes(given, task, stage) -> None:
    (whole,) = stage.apply(tiny_candidate(), given("whole"))
    made, start = given("begun"), tiny_candidate()
    before = copy.deepcopy(start.network.module.state_dict())
    scores = [stage.begin(start, made, epochs) for epochs in (1, 2, 2)]
    assert scores[1] == scores[2]
    assert all((value == before[name]).all() for name, value in start.network.module.state_dict().items())
    (resumed,) = stage.apply(start, made)
    assert weights(resumed) == weights(whole)
    assert resumed.lineage[-1].decisions == whole.lineage[-1].decisions
    assert stage.begin(start, made, 3) == validation_score(whole.network.module, task)
