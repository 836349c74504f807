"""control_of() and validation_score(): what a training without the teacher is, and what choices are made by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from compresslab.data.augmentation import Augmentation
from compresslab.distillation import Recipe, control_of, learn, validation_score
from compresslab.distillation.feed import Feed
from compresslab.distillation.terms import TaskTerm
from compresslab.tasks import Task
from compresslab.testing import context, tiny_candidate
from compresslab.training import FitSettings


def recipe(**settings: Any) -> Recipe:
    return Recipe.model_validate({"epochs": 8, "batch": 32, **settings})


def test_a_control_trains_alike_but_for_the_teacher(make_images, tmp_path) -> None:
    task = make_images(Augmentation(shift=1), False)
    given = recipe(
        learning_rate=0.07, optimizer="adamw", weight_decay=0.01, schedule="cosine", clip=None, ema=0.9,
        precision="fp32", accumulate=2, views=3, mixup=0.25,
        losses=[{"kd": {"weight": 3}}, {"rkd": {"student": "head", "teacher": "head"}}],
    )  # fmt: skip
    alone = control_of(given, context(tmp_path, task))
    kept = [*FitSettings.model_fields, "views", "mixup"]
    assert alone.model_dump(include=set(kept)) == given.model_dump(include=set(kept))
    assert alone.named_terms(task, taught=True) == (("task", TaskTerm()),)
    assert not alone.reads_teacher(task)


@pytest.mark.parametrize("transfer_ratio", [None, 0.1, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("epochs", [4, 8])
def test_a_control_takes_as_many_steps(make_images, tmp_path, transfer_ratio, epochs) -> None:
    """Without the unlabelled samples its epochs are shorter, so it gets more: whole ones, so half of one may be off."""
    task = make_images(Augmentation(), True)
    given, plain = recipe(transfer_ratio=transfer_ratio, epochs=epochs), context(tmp_path, task)
    alone = control_of(given, plain)
    taught = Feed(plain, given, (), unlabelled=True).steps * epochs
    steps = Feed(plain, alone, (), unlabelled=False).steps
    assert abs(steps * alone.epochs - taught) <= steps / 2
    assert alone.epochs >= epochs


def test_without_unlabelled_samples_it_takes_exactly_as_many(make_images, scores, tmp_path) -> None:
    images = make_images(Augmentation(), False)
    for task in (images, scores):
        alone = control_of(recipe(), context(tmp_path, task))
        # 60 unlabelled rows beside 210 with a target: 8 steps an epoch instead of 6.
        assert alone.epochs == (8 if task is images else 11)


def test_a_control_steps_as_often_as_it_says(make_images, tmp_path, monkeypatch) -> None:
    """What fit() is asked to do, and not what Feed would do."""
    task, asked = make_images(Augmentation(), True), []
    monkeypatch.setattr(
        "compresslab.distillation.learning.fit",
        lambda module, batches, steps, loss, settings, **_: asked.append((steps, settings.epochs)) or (),
    )
    given = context(tmp_path, task)
    learn(tiny_candidate((8,)).network.module, control_of(recipe(), given), given, "control")
    ((steps, epochs),) = asked
    assert steps == 336 // 32
    assert steps * epochs == pytest.approx(8 * (436 // 32), abs=steps / 2)


@pytest.fixture
def by_hand() -> Callable[[torch.nn.Module, Task], float]:
    def score(module: torch.nn.Module, task: Task) -> float:
        split = task.splits["validation"]
        images = torch.from_numpy(task.batch("validation", np.arange(len(split.targets)), None))
        with torch.no_grad():
            return float((module.eval()(images).argmax(1).numpy() == split.targets).mean())

    return score


def test_the_score_on_validation_leaves_the_network_as_it_was(make_images, by_hand) -> None:
    """In eval mode, on samples as they are, and back in the mode it was in."""
    task = make_images(Augmentation(shift=3, flip=True), False)
    module = tiny_candidate((8, 16), seed=4).network.module
    expected = by_hand(module, task)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    for training in (True, False):
        module.train(training)
        assert validation_score(module, task) == pytest.approx(expected)
        assert module.training is training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(one.requires_grad for one in module.parameters())


def test_the_score_of_a_regression_is_its_metric(scores, score_network) -> None:
    module = score_network()
    split = scores.splits["validation"]
    with torch.no_grad():
        answers = module(torch.from_numpy(scores.batch("validation", np.arange(len(split.targets)), None))).numpy()[
            :, 0
        ]
    ranks = [np.argsort(np.argsort(one)) for one in (answers, split.targets)]
    assert validation_score(module, scores) == pytest.approx(np.corrcoef(*ranks)[0, 1], abs=1e-6)
