"""Recipe: the short settings and the list of losses, which say the same in two ways, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from compresslab.data.augmentation import Augmentation
from compresslab.distillation import Recipe
from compresslab.distillation.terms import Huber, Kd, TaskTerm
from compresslab.errors import BadInput, ModelError
from compresslab.measure.preprocessing import FeaturePreprocessing
from compresslab.tasks import Classes, Objective, Score, Split, Task
from compresslab.tasks.task import Targets
from compresslab.testing import tiny_candidate


def task(name: str, objective: Objective, targets: Targets | None) -> Task:
    rows = np.arange(2)
    inputs = np.eye(2, 3, dtype=np.float32)
    train = Split("train", inputs, targets, rows.astype(np.uint64), "", "train", rows, 2)
    how = FeaturePreprocessing(width=3)
    return Task(name, objective, {"train": train}, how, Augmentation(), "any", "")


CLASSES = task("stripes", Classes(("a", "b")), np.array([0, 1]))
NUMBER = task("scores", Score("score", 0.0, 1.0), np.array([0.5, 1.5], np.float32))


def recipe(**settings: Any) -> Recipe:
    return Recipe.model_validate({"epochs": 1, **settings})


def terms(made: Recipe, task: Any = CLASSES, *, taught: bool = True) -> tuple[Any, ...]:
    return made.terms(task, taught=taught)


def test_short_settings_and_losses_say_the_same() -> None:
    short = recipe(temperature=2.0, kd_weight=0.7, task_weight=0.3)
    listed = recipe(losses=[{"kd": {"temperature": 2.0, "weight": 0.7}}, {"task": {"weight": 0.3}}])
    assert terms(short) == terms(listed) == (Kd(weight=0.7, temperature=2.0), TaskTerm(weight=0.3))
    assert [name for name, _ in listed.named_terms(CLASSES, taught=True)] == ["kd", "task"]


def test_a_regression_learns_from_the_teachers_number() -> None:
    assert terms(recipe(kd_weight=0.7, task_weight=0.3), NUMBER) == (Huber(weight=0.7), TaskTerm(weight=0.3))


def test_terms_of_no_weight_are_left_out() -> None:
    assert terms(recipe(task_weight=0.0)) == (Kd(weight=0.9, temperature=4.0),)
    assert terms(recipe(losses=[{"kd": {}}, {"dist": {"weight": 0}}])) == (Kd(),)


@pytest.mark.parametrize(
    ("settings", "taught"),
    [
        ({}, False),
        ({"kd_weight": 0.0}, True),
        ({"kd_weight": 0.0, "task_weight": 0.0}, True),
        ({"losses": [{"task": {"weight": 0.1}}]}, True),
        ({"losses": [{"kd": {"weight": 0}}, {"task": {"weight": 0.1}}]}, True),
        ({"losses": [{"hint": {"student": "a", "teacher": "b"}}]}, False),
    ],
)
def test_without_a_teacher_the_whole_loss_of_the_task_is_left(settings: dict[str, Any], taught: bool) -> None:
    """And not the tenth that distillation leaves of it: a control would train at a tenth of the learning rate."""
    assert terms(recipe(**settings), taught=taught) == (TaskTerm(),)
    assert not (taught and recipe(**settings).reads_teacher(CLASSES))


def test_whether_a_teacher_is_asked() -> None:
    assert recipe().reads_teacher(CLASSES)
    assert recipe(losses=[{"task": {}}, {"rkd": {"student": "a", "teacher": "b"}}]).reads_teacher(CLASSES)


@pytest.mark.parametrize("short", [{"temperature": 2.0}, {"kd_weight": 0.5}, {"kd_weight": 0.5, "task_weight": 0.5}])
def test_losses_and_short_settings_together_are_refused(short: dict[str, float]) -> None:
    named = " and ".join(f"`{name}`" for name in short)
    with pytest.raises(ValidationError, match=f"`losses` says all of the loss, but {named} is given too"):
        recipe(losses=[{"kd": {}}], **short)


def test_what_a_lock_file_writes_is_read_again() -> None:
    """It writes every setting, so the defaults beside `losses` too."""
    made = recipe(losses=[{"kd": {"temperature": 2.0}}, {"hint": {"student": "a", "teacher": "b"}}])
    assert Recipe.model_validate_json(made.model_dump_json()) == made
    assert Recipe.model_validate(made.model_dump(mode="json", exclude_none=True)) == made


@pytest.mark.parametrize("name", ["dkd", "nkd"])
def test_mixup_leaves_no_class_to_losses_that_need_one(name: str) -> None:
    with pytest.raises(ValidationError, match=f"`{name}` needs the one class of each sample, which `mixup` blends"):
        recipe(mixup=0.5, losses=[{"kd": {}}, {name: {}}])
    assert recipe(mixup=0.5, losses=[{"kd": {}}, {"task": {}}]).mixup == 0.5


@pytest.mark.parametrize("name", ["kd", "standardised_kd", "dkd", "nkd", "dist", "hard_label"])
def test_losses_between_classes_are_no_use_to_a_regression(name: str) -> None:
    """A softmax over one number is 1: the loss would be 0 whatever is learned."""
    with pytest.raises(BadInput, match=f"`{name}` is a loss between classes, but scores is a regression; use `huber`"):
        terms(recipe(losses=[{name: {}}]), NUMBER)


def test_layers_that_are_not_there_are_told_with_those_that_are() -> None:
    network = tiny_candidate((8, 16)).network.module
    made = recipe(losses=[{"kd": {}}, {"hint": {"student": "stages.1", "teacher": "stages.0"}}])
    made.require_layers(network, network)
    wrong = recipe(losses=[{"hint": {"student": "stages.11", "teacher": "stage.1"}}])
    with pytest.raises(ModelError, match=r"`hint`: the student has no layer `stages\.11`; did you mean `stages\.1`\?"):
        wrong.require_layers(network, None)
    fit = recipe(losses=[{"hint": {"student": "stages.1", "teacher": "stage.1"}}])
    with pytest.raises(ModelError, match=r"`hint`: the teacher has no layer `stage\.1`; did you mean .*It has `head`"):
        fit.require_layers(network, network)
    fit.require_layers(network, None)
