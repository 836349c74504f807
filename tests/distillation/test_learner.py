"""Learner and TotalLoss: the student with its projectors, and the loss of what both give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from compresslab import losses
from compresslab.data.augmentation import Augmentation
from compresslab.distillation import Recipe
from compresslab.distillation.feed import Feed
from compresslab.distillation.learner import Learner, TotalLoss, labelled_weight
from compresslab.errors import ModelError
from compresslab.models import architecture
from compresslab.progress import Silent
from compresslab.stages import Distill
from compresslab.tasks import Task
from compresslab.tasks.anchors import Anchors
from compresslab.tasks.objective import Embeddings
from compresslab.teacher import OUTPUT
from compresslab.testing import context, tiny_candidate
from compresslab.training import Batch, FitSettings, fit

HINT = {"hint": {"student": "stages.0", "teacher": "stages.1", "weight": 0.5}}
EMBEDDING = {"embedding": {"student": "head", "teacher": "head"}}
RKD = {"rkd": {"student": "stages.0", "teacher": "stages.1", "weight": 0.2}}


def student() -> nn.Module:
    """8 channels; the teacher's last stage has 16."""
    return tiny_candidate((8,)).network.module


@pytest.fixture(scope="module")
def task(make_images: Callable[..., Task]) -> Task:
    return make_images(Augmentation(), True)


@pytest.fixture
def made(task, make_teacher, tmp_path) -> Callable[..., tuple[Learner, TotalLoss, Batch]]:
    """A learner of a recipe with these losses, its loss, and a batch of 64, part of it without labels."""

    def make(
        *listed: dict[str, Any], network: nn.Module | None = None, seed: int = 0
    ) -> tuple[Learner, TotalLoss, Batch]:
        recipe = Recipe.model_validate({"epochs": 1, "batch": 64, "losses": list(listed)})
        terms = recipe.terms(task, taught=True)
        names = [OUTPUT, *(theirs for term in terms for _, theirs in term.layers)]
        teacher = make_teacher(task)
        feed = Feed(replace(context(tmp_path, task), teacher=teacher), recipe, names, unlabelled=True)
        batch = next(iter(feed.batches(0)))
        assert batch.labelled is not None
        return Learner(network or student(), terms, feed.first(2), seed), TotalLoss(terms, task), batch

    return make


# -- the other tower -------------------------------------------------------------------------------------------------


def test_the_other_towers_embeddings_are_made_before_the_training_and_not_in_its_first_step(task) -> None:
    made: list[str] = []

    def make() -> tuple[np.ndarray, np.ndarray]:
        made.append("anchors")
        return np.eye(4, dtype=np.float32), np.arange(4)

    TotalLoss([], replace(task, objective=Embeddings(4, one_space=True, anchors=Anchors(make))))
    assert made == ["anchors"]


# -- projectors ------------------------------------------------------------------------------------------------------


def test_projectors_bring_each_feature_to_the_teachers_width(made) -> None:
    learner, _, batch = made({"kd": {}}, HINT, RKD, EMBEDDING)
    shapes = {key: tuple(one.weight.shape) for key, one in learner.projectors.items()}
    assert shapes == {"term1layer0": (16, 8, 1, 1), "term3layer0": (3, 3)}, "relations need none"
    outputs, features = learner(batch.inputs)
    assert outputs.shape == (64, 3)
    assert {key: tuple(one.shape) for key, one in features.items()} == {
        "term1layer0": (64, 16, 12, 12), "term2layer0": (64, 8, 12, 12), "term3layer0": (64, 3),
    }  # fmt: skip
    torch.testing.assert_close(features["term1layer0"], learner.projectors["term1layer0"](features["term2layer0"]))


def test_without_a_term_that_projects_there_are_none(made) -> None:
    learner, _, batch = made({"kd": {}}, RKD)
    assert len(learner.projectors) == 0
    assert list(learner.state_dict()) == [f"student.{name}" for name in student().state_dict()]
    assert set(learner(batch.inputs)[1]) == {"term1layer0"}


def test_projectors_derive_from_the_seed_and_leave_the_callers_randomness_alone(made) -> None:
    weights = []
    for seed in (1, 1, 2):
        torch.manual_seed(7)
        learner, _, _ = made(HINT, seed=seed)
        expected = torch.Generator().manual_seed(7)
        assert torch.equal(torch.rand(3), torch.rand(3, generator=expected))
        weights.append(learner.projectors["term0layer0"].weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_looking_at_shapes_leaves_the_student_as_it_was(made) -> None:
    """Its BatchNorm statistics would move by a batch of two."""
    network = student().train()
    made(HINT, network=network)
    assert network.training
    before = student().state_dict()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_projectors_are_trained_with_the_student(made, tmp_path) -> None:
    learner, loss, batch = made(HINT)
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    settings = FitSettings(epochs=1, batch=64, learning_rate=0.05, precision="fp32", weight_decay=0.0)
    fit(
        learner, lambda _: [batch] * 3, 3, loss, settings,
        seed=0, device="cpu", scratch=tmp_path, progress=Silent(), phase="distill",
    )  # fmt: skip
    moved = {name for name, value in learner.state_dict().items() if not torch.equal(value, before[name])}
    assert {"projectors.term0layer0.weight", "projectors.term0layer0.bias"} <= moved
    assert "student.stem.0.weight" in moved
    assert "student.head.weight" not in moved, "nothing asks about what comes after the feature"


def test_a_candidate_has_no_projectors(task, make_teacher, tmp_path) -> None:
    stage = Distill.model_validate(
        {"epochs": 1, "batch": 128, "student": {"residual": {"widths": [8]}}, "losses": [{"kd": {}}, HINT]}
    )
    (found,) = stage.apply(tiny_candidate(), replace(context(tmp_path, task), teacher=make_teacher(task)))
    assert list(found.network.module.state_dict()) == list(student().state_dict())
    architecture.save(found.network, tmp_path / "saved")
    assert architecture.digest(architecture.load(tmp_path / "saved")) == architecture.digest(found.network)


def test_a_layer_that_does_not_run_is_told(made) -> None:
    """A traced network keeps its containers, and calls what is inside them."""
    traced = torch.fx.symbolic_trace(student())
    with pytest.raises(ModelError, match=r"layer `stages\.0` .* is not run by its network"):
        made(HINT, network=traced)
    learner, _, batch = made(RKD, network=traced)
    with pytest.raises(ModelError, match=r"layer `stages\.0` .* is not run by its network"):
        learner(batch.inputs)


# -- the loss --------------------------------------------------------------------------------------------------------


def test_terms_are_weighted_and_added_up(made) -> None:
    """By hand from the networks, with labelled samples for the task and all samples for everything else."""
    learner, loss, batch = made({"kd": {"temperature": 2.0, "weight": 0.7}}, {"task": {"weight": 0.3}}, HINT, RKD)
    learner.eval()
    logits = learner.student(batch.inputs)
    features = learner.student.stages[0](learner.student.stem(batch.inputs))
    theirs = batch.teacher["stages.1"]
    known = batch.labelled
    expected = (
        0.7 * losses.kd(logits, batch.teacher[OUTPUT], 2.0)
        + 0.3 * F.cross_entropy(logits[known], batch.targets[known])
        + 0.5 * losses.hint(learner.projectors["term2layer0"](features), theirs)
        + 0.2 * losses.rkd_distance(features.flatten(1), theirs.flatten(1))
        + 0.2 * 2 * losses.rkd_angle(features.flatten(1), theirs.flatten(1))
    )
    assert loss(learner, batch).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_losses_are_computed_in_float32(made, dtype) -> None:
    """Of what the network gave in half precision: in bfloat16 itself, softened probabilities would be off by 0.4 %."""
    learner, loss, batch = made({"kd": {"temperature": 8.0}}, {"dist": {}}, {"task": {}}, HINT)
    learner.eval()
    with torch.autocast("cpu", dtype=dtype):
        outputs, features = learner(batch.inputs)
        value = loss(learner, batch)
    assert outputs.dtype == features["term3layer0"].dtype == dtype
    assert value.dtype == torch.float32
    logits, teacher, known = outputs.float(), batch.teacher[OUTPUT], batch.labelled
    expected = (
        losses.kd(logits, teacher, 8.0) + losses.dist(logits, teacher, 1.0, 2.0, 2.0)
        + F.cross_entropy(logits[known], batch.targets[known])
        + 0.5 * losses.hint(features["term3layer0"].float(), batch.teacher["stages.1"])
    )  # fmt: skip
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("count", [3, 7])
def test_parts_of_a_batch_add_up_to_the_whole_whatever_labels_they_have(made, count) -> None:
    """The mean over the labelled samples of a part must count by how many these are."""
    learner, loss, batch = made({"kd": {}}, {"task": {"weight": 0.3}}, {"dkd": {"weight": 0.1}})
    learner.eval()  # BatchNorm would see a part at a time
    parts = batch.parts(count)
    assert len({float(part.labelled.float().mean()) for part in parts}) > 1
    total = sum(loss(learner, part).item() * len(part.inputs) / 64 for part in parts)
    assert total == pytest.approx(loss(learner, batch).item(), rel=1e-5)


def test_the_weight_of_a_parts_labelled_samples() -> None:
    mask = torch.tensor([True, False, False, False])
    assert labelled_weight(None, None) == 1.0
    assert labelled_weight(mask, None) == 1.0, "a whole batch"
    assert labelled_weight(mask, 0.5) == 0.5
    assert labelled_weight(~mask, 0.5) == 1.5
    assert labelled_weight(torch.zeros(4, dtype=torch.bool), 0.0) == 1.0


def test_gradients_reach_the_student_and_never_the_teacher(made) -> None:
    learner, loss, batch = made({"kd": {}}, HINT)
    answers = {name: values.clone().requires_grad_() for name, values in batch.teacher.items()}
    loss(learner, replace(batch, teacher=answers)).backward()
    assert all(one.grad is not None for one in learner.parameters())
    assert all(one.grad is None for one in answers.values())


# -- a better student ------------------------------------------------------------------------------------------------


def test_a_hint_alone_brings_the_features_together(made, tmp_path) -> None:
    learner, loss, batch = made(HINT)
    history = fit(
        learner, lambda _: [batch] * 4, 4, loss,
        FitSettings(epochs=4, batch=64, learning_rate=0.1, precision="fp32", schedule="constant"),
        seed=0, device="cpu", scratch=tmp_path, progress=Silent(), phase="distill",
    )  # fmt: skip
    values = [epoch.loss for epoch in history]
    assert all(later < earlier for earlier, later in pairwise(values))
    assert values[-1] < 0.7 * values[0]
