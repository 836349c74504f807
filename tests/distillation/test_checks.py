"""What is told of a finished distillation: each figure by hand, each warning where it belongs and nowhere else."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compresslab.data.augmentation import Augmentation
from compresslab.distillation import Recipe, checks
from compresslab.distillation.checks import explained, explained_share
from compresslab.stage import Context
from compresslab.tasks import ImageClassification, Task, TaskSpec
from compresslab.teacher import OUTPUT, Question
from compresslab.testing import context, stripes

RECIPE = Recipe(epochs=3, batch=64, views=1)

# -- the share of a teacher that a student explains --------------------------------------------------------------------


def logs(*rows: tuple[float, ...]) -> np.ndarray:
    """Logits of these probabilities."""
    return np.log(np.array(rows, np.float32))


TEACHER = logs((0.8, 0.1, 0.1), (0.2, 0.6, 0.2))
MEAN = logs((0.5, 0.35, 0.15))


def test_a_copy_explains_all_and_the_mean_answer_nothing() -> None:
    assert explained_share(TEACHER + 3, TEACHER, classes=True) == pytest.approx(1, abs=1e-6)
    assert explained_share(np.repeat(MEAN, 2, axis=0), TEACHER, classes=True) == pytest.approx(0, abs=1e-6)


def test_a_share_in_between_by_hand() -> None:
    """1 - KL(p || q) / KL(p || mean of p), the sums over both samples."""
    student = logs((0.6, 0.2, 0.2), (0.3, 0.4, 0.3))

    def divergence(p: tuple[float, ...], q: tuple[float, ...]) -> float:
        return sum(one * np.log(one / other) for one, other in zip(p, q, strict=True))

    p = (0.8, 0.1, 0.1), (0.2, 0.6, 0.2)
    missed = divergence(p[0], (0.6, 0.2, 0.2)) + divergence(p[1], (0.3, 0.4, 0.3))
    spread = sum(divergence(one, (0.5, 0.35, 0.15)) for one in p)
    assert explained_share(student, TEACHER, classes=True) == pytest.approx(1 - missed / spread, rel=1e-5)
    assert 0.4 < 1 - missed / spread < 0.8


def test_worse_than_the_mean_is_below_zero() -> None:
    assert explained_share(TEACHER[::-1], TEACHER, classes=True) < 0


@pytest.mark.parametrize("low", [-1e4, -1e30])
def test_a_class_that_the_teacher_rules_out(low: float) -> None:
    """Its probability is 0, of which there is no logarithm: log-probabilities that a user has cut off somewhere."""
    teacher = np.concatenate([TEACHER, np.full((2, 1), low, np.float32)], axis=1)
    assert explained_share(teacher, teacher, classes=True) == pytest.approx(1)
    student = np.concatenate([np.repeat(MEAN, 2, axis=0), np.full((2, 1), low, np.float32)], axis=1)
    assert explained_share(student, teacher, classes=True) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("classes", [True, False])
def test_of_a_teacher_that_always_says_the_same_nothing_can_be_explained(classes: bool) -> None:
    """What differs is rounding, by which nothing may be divided."""
    same = np.repeat(logs((0.7, 0.2, 0.1)), 50, axis=0)
    shifted = same + np.arange(50, dtype=np.float32)[:, None] if classes else same
    assert explained_share(TEACHER[np.arange(50) % 2], shifted, classes=classes) == 0


def test_of_numbers_it_is_the_share_of_the_variance() -> None:
    teacher = np.array([[1.0], [2.0], [6.0]], np.float32)
    assert explained_share(teacher, teacher, classes=False) == 1
    assert explained_share(np.full((3, 1), 3, np.float32), teacher, classes=False) == pytest.approx(0)
    # Errors 1, 0, 2 against deviations -2, -1, 3.
    assert explained_share(teacher + np.array([[1.0], [0.0], [2.0]]), teacher, classes=False) == pytest.approx(
        1 - 5 / 14
    )


@pytest.mark.parametrize("settings", [{}, {"mixup": 0.5}])
def test_the_teacher_explains_itself(make_images, make_teacher, tmp_path, settings: dict[str, Any]) -> None:
    """Its answers are held against the student's for the same pixels: those of the view that was trained on."""
    task = make_images(Augmentation(shift=2, flip=True), True)
    teacher = make_teacher(task)
    given = replace(context(tmp_path, task, seed=5), teacher=teacher)
    recipe = RECIPE.model_copy(update=settings)
    assert explained(teacher.module, recipe, given) == pytest.approx(1, abs=1e-4)
    other = copy.deepcopy(teacher.module)
    other.head.bias.data += torch.tensor([0.0, 3.0, 0.0])
    assert explained(other, recipe, given) < 0.9


# -- warnings --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Says:
    """A teacher that names these classes for the samples of a split, one after the other."""

    classes: dict[str, list[int]]
    outputs: int = 3
    digest: str = "says"

    def require(self, mixup: float, outputs: object) -> None:
        """Anything can be asked."""

    def answers(self, question: Question, _: object) -> Says:
        return Says({OUTPUT: self.classes[question.split]}, self.outputs)

    def of(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        named = np.resize(self.classes[OUTPUT], int(rows.max()) + 1)[rows]
        return {OUTPUT: np.eye(self.outputs, dtype=np.float32)[named]}


@pytest.fixture
def warned(tmp_path: Path) -> Callable[..., tuple[str, ...]]:
    def warn(task: Task, share: float = 0.95, says: dict[str, list[int]] | None = None) -> tuple[str, ...]:
        teacher = Says(says or {"train": [0, 1, 2], "transfer": [0, 1, 2]}, outputs=task.outputs)
        given = Context(**{**context(tmp_path, task).__dict__, "teacher": teacher})
        return checks.warnings(RECIPE, given, share)

    return warn


@pytest.fixture(scope="module")
def task(make_images: Callable[..., Task]) -> Task:
    return make_images(Augmentation(), False)


def test_a_good_distillation_is_not_warned_of(warned, task, scores) -> None:
    assert warned(task) == ()
    assert warned(task, share=0.8) == ()
    assert warned(scores) == ()


@pytest.mark.parametrize(("share", "told"), [(0.7949, "79%"), (0.05, "5%"), (-4.0, "0%")])
def test_a_student_that_is_too_small(warned, task, scores, share, told) -> None:
    for one in (task, scores):
        (gap,) = warned(one, share=share)
        assert gap.startswith(
            f"capacity gap: on the training samples the student reproduces only {told} of the teacher"
        )


def test_little_data_until_there_are_unlabelled_samples_too(warned, tmp_path: Path) -> None:
    """140 labelled samples of three classes are too few, and 240 with the unlabelled ones are not."""
    np.savez(tmp_path / "few.npz", **stripes(200))
    np.savez(tmp_path / "more.npz", images=stripes(100, seed=7)["images"])

    def load(transfer: str | None) -> Task:
        data = ImageClassification(npz=str(tmp_path / "few.npz"), transfer=transfer)
        return TaskSpec(image_classification=data).load(tmp_path)

    (little,) = warned(load(None))
    assert little == "little transfer data: 140 samples for 3 classes; add unlabelled ones as `transfer`"
    assert warned(load(str(tmp_path / "more.npz"))) == ()


@pytest.mark.parametrize(
    ("named", "told"),
    [
        ([0], "`vertical`, `diagonal`"),
        ([0, 1] * 20 + [2], "`diagonal`"),  # 8 of 336, and a tenth of the equal share is 11
        ([0, 1] * 10 + [2], None),  # 16
    ],
)
def test_a_class_that_the_teacher_hardly_names(warned, task, named, told) -> None:
    found = warned(task, says={"train": named})
    if told is None:
        assert found == ()
    else:
        (coverage,) = found
        assert coverage.startswith(f"class coverage: the teacher hardly ever names {told} on the samples that")


def test_unlabelled_samples_cover_classes_too(warned, make_images) -> None:
    """That is what one adds them for; and however many of one class there are, they take nothing from the others."""
    task = make_images(Augmentation(), True)
    assert warned(task, says={"train": [0, 1], "transfer": [2]}) == ()
    assert warned(task, says={"train": [0, 1, 2], "transfer": [0]}) == ()
    assert len(warned(task, says={"train": [0, 1], "transfer": [0]})) == 1


def test_all_that_is_wrong_is_told(warned, task) -> None:
    assert [one.partition(":")[0] for one in warned(task, share=0.1, says={"train": [1]})] == [
        "capacity gap", "class coverage",
    ]  # fmt: skip
