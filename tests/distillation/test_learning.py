"""learn(): which pixels, which teacher outputs and which loss every training step sees."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from compresslab.data.augmentation import Augmentation
from compresslab.distillation import Recipe, learn
from compresslab.distillation.learner import Learner
from compresslab.losses import kd
from compresslab.models import architecture
from compresslab.stage import Context
from compresslab.store import Store
from compresslab.tasks import ImageClassification, Task, TaskSpec
from compresslab.teacher import OUTPUT, NetworkTeacher, Teacher
from compresslab.testing import context, tiny_candidate
from compresslab.training import Batch, Epoch

SEED = 3


@dataclass
class Asked:
    """What learn() asked of fit(): its arguments, and what the loss was given."""

    batches: Callable[[int], list[Batch]]
    loss: Callable
    steps: int
    options: dict = field(default_factory=dict)


@pytest.fixture(scope="module")
def make_task(stripes_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Augmentation], Task]:
    def make(augment: Augmentation) -> Task:
        data = ImageClassification(npz=str(stripes_file), name="stripes", augment=augment)
        return TaskSpec(image_classification=data).load(tmp_path_factory.mktemp("cache"))

    return make


@pytest.fixture(scope="module")
def augmented(make_task) -> Task:
    return make_task(Augmentation(shift=2, flip=True))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Asked]:
    """Calls learn() with a fit() that trains nothing and tells what it was to do."""

    def ask(recipe: Recipe, task: Task, teacher: Teacher | None = None, seed: int = SEED) -> Asked:
        caught: list[Asked] = []

        def fit(module, batches, steps, loss, settings, **options) -> tuple[Epoch, ...]:
            caught.append(Asked(lambda epoch: list(batches(epoch)), loss, steps, {"settings": settings, **options}))
            return ()

        monkeypatch.setattr("compresslab.distillation.learning.fit", fit)
        learn(network(0), recipe, with_teacher(tmp_path, task, teacher, seed), "distill")
        return caught[0]

    return ask


def network(seed: int) -> torch.nn.Module:
    return tiny_candidate((8,), seed).network.module


def alone(student: torch.nn.Module) -> Learner:
    """The student as fit() gets it, where no loss reads its features."""
    return Learner(student, (), Batch(torch.zeros(0), None), 0)


def with_teacher(folder: Path, task: Task, teacher: Teacher | None, seed: int = SEED) -> Context:
    plain = context(folder, task, seed=seed)
    return Context(**{**plain.__dict__, "teacher": teacher})


def make_teacher(folder: Path, task: Task) -> Teacher:
    model = tiny_candidate((8, 8), seed=9).network
    return NetworkTeacher(model.module, architecture.digest(model), task, Store(folder / "store"), precision="fp32")


def recipe(**settings) -> Recipe:
    return Recipe(**{"epochs": 5, "batch": 64, "precision": "fp32", **settings})


def by_pixels(batches: list[Batch]) -> dict[bytes, bytes]:
    """Every sample's pixels -> the teacher's answer to them."""
    return {
        pixels.numpy().tobytes(): answer.numpy().tobytes()
        for batch in batches
        for pixels, answer in zip(batch.inputs, batch.teacher[OUTPUT], strict=True)
    }


def test_the_teacher_answers_for_the_very_pixels_that_the_student_sees(asked, augmented, tmp_path) -> None:
    teacher = make_teacher(tmp_path, augmented)
    for batch in asked(recipe(views=2), augmented, teacher).batches(1):
        with torch.no_grad():
            live = teacher.module.eval()(batch.inputs)
        np.testing.assert_allclose(batch.teacher[OUTPUT], live, rtol=1e-4, atol=1e-5)


def test_views_cycle(asked, augmented, tmp_path) -> None:
    """Epoch e and e + views show the same pixels with the same answers, in another order; others show others."""
    made = asked(recipe(views=2), augmented, make_teacher(tmp_path, augmented))
    epochs = [made.batches(epoch) for epoch in range(4)]
    pixels = [by_pixels(batches) for batches in epochs]
    whole = 64 * made.steps
    # The samples that fill no batch differ from epoch to epoch, so not all are in both.
    common = pixels[0].keys() & pixels[2].keys()
    assert len(common) > 0.8 * whole
    assert all(pixels[0][one] == pixels[2][one] for one in common)
    assert len(pixels[0].keys() & pixels[1].keys()) < 0.5 * whole
    assert not torch.equal(epochs[0][0].inputs, epochs[2][0].inputs), "the order is another one"


def test_the_teacher_answers_each_view_once(asked, augmented, tmp_path) -> None:
    teacher = make_teacher(tmp_path, augmented)
    asked(recipe(views=2), augmented, teacher)
    assert len(list((tmp_path / "store").glob("entries/teacher/*"))) == 2
    asked(recipe(views=None, epochs=3), augmented, teacher)
    assert len(list((tmp_path / "store").glob("entries/teacher/*"))) == 3, "two of the three were there"


def test_a_fresh_store_has_the_teacher_answer_again_and_once(asked, augmented, tmp_path) -> None:
    """What `--fresh` promises, for the stages of one run together."""
    teacher = make_teacher(tmp_path, augmented)
    batches = asked(recipe(views=2), augmented, teacher).batches(0)

    def answered(store: Store) -> dict[str, object]:
        again = NetworkTeacher(teacher.module, teacher.digest, augmented, store, precision="fp32")
        found = asked(recipe(views=2), augmented, again).batches(0)
        assert by_pixels(found) == by_pixels(batches)
        return {entry.key: entry.created for entry in store.entries()}

    store, fresh = Store(tmp_path / "store"), Store(tmp_path / "store", fresh=True)
    first, renewed, once = answered(store), answered(fresh), answered(fresh)
    assert first.keys() == renewed.keys()
    assert all(renewed[key] > first[key] for key in first)
    assert once == renewed


def test_without_augmentation_all_views_are_one(asked, make_task, tmp_path) -> None:
    task = make_task(Augmentation())
    asked(recipe(views=None), task, make_teacher(tmp_path, task))
    assert len(list((tmp_path / "store").glob("entries/teacher/*"))) == 1


def test_other_pipeline_seeds_see_other_views(asked, augmented) -> None:
    first, second = (asked(recipe(), augmented, seed=seed).batches(0) for seed in (1, 2))
    pixels = [{one.numpy().tobytes() for batch in batches for one in batch.inputs} for batches in (first, second)]
    assert len(pixels[0] & pixels[1]) < 0.5 * len(pixels[0])


@pytest.mark.parametrize(("kd_weight", "task_weight"), [(0.9, 0.1), (0.5, 0.0), (1.0, 2.0)])
def test_the_loss_is_the_weighted_sum(asked, augmented, tmp_path, kd_weight, task_weight) -> None:
    """By hand on one batch: kd_weight * T^2 KL(teacher || student) + task_weight * cross-entropy."""
    settings = recipe(views=1, kd_weight=kd_weight, task_weight=task_weight, temperature=3.0)
    made = asked(settings, augmented, make_teacher(tmp_path, augmented))
    batch = made.batches(0)[0]
    student = network(4).eval()
    logits = student(batch.inputs)
    p, q = (functional.softmax(one / 3.0, dim=1) for one in (batch.teacher[OUTPUT], logits))
    divergence = (p * (p.log() - q.log())).sum(1).mean() * 9
    entropy = -functional.log_softmax(logits, 1)[torch.arange(len(logits)), batch.targets].mean()
    expected = kd_weight * divergence + task_weight * entropy
    assert made.loss(alone(student), batch).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("settings", [{"kd_weight": 0.0}, {"kd_weight": 0.0, "task_weight": 0.0}])
def test_a_control_asks_the_teacher_nothing(asked, augmented, tmp_path, settings) -> None:
    """And trains on the whole task loss, not on a tenth of it."""

    class Silence:
        def answers(self, *_: object, **__: object) -> None:
            raise AssertionError("a control must not ask the teacher")

    made = asked(recipe(**settings), augmented, Silence())
    batch = made.batches(0)[0]
    assert not batch.teacher
    student = network(4).eval()
    assert made.loss(alone(student), batch).item() == pytest.approx(
        functional.cross_entropy(student(batch.inputs), batch.targets).item()
    )


def test_no_teacher_is_a_control(asked, augmented) -> None:
    assert all(not batch.teacher for batch in asked(recipe(), augmented).batches(0))


def test_labels_belong_to_their_pixels(asked, make_task) -> None:
    task = make_task(Augmentation())
    train = task.splits["train"]
    labels = {
        task.batch("train", np.array([row]), None).tobytes(): int(train.targets[row]) for row in range(len(train.ids))
    }
    for batch in asked(recipe(), task).batches(2):
        for pixels, target in zip(batch.inputs, batch.targets, strict=True):
            assert labels[pixels[None].numpy().tobytes()] == int(target)


def test_an_epoch_is_every_whole_batch(asked, augmented) -> None:
    made = asked(recipe(), augmented)
    samples = len(augmented.splits["train"].inputs)
    assert made.steps == samples // 64 == len(made.batches(0)) == len(made.batches(3))
    assert made.options["phase"] == "distill"
    assert made.options["seed"] == SEED


def test_a_student_comes_to_agree_with_its_teacher(augmented, tmp_path, trained_checkpoint) -> None:
    """End to end: soft targets alone, without one label."""
    model = architecture.load(trained_checkpoint)
    teacher = NetworkTeacher(model.module, architecture.digest(model), augmented, Store(tmp_path / "store"))
    student = network(0)
    untrained = copy.deepcopy(student).eval()
    settings = recipe(epochs=6, learning_rate=0.05, views=1, kd_weight=1.0, task_weight=0.0)
    learn(student, settings, with_teacher(tmp_path, augmented, teacher), "distill")
    images = torch.from_numpy(augmented.batch("validation", np.arange(48), None))
    with torch.no_grad():
        before, after = (kd(one(images), model.module(images), 4.0).item() for one in (untrained, student))
    assert after < 0.5 * before
