"""Losses between embeddings: the outputs of networks that may differ in width, and what a run makes of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from compresslab import losses
from compresslab.distillation import Recipe, learn
from compresslab.distillation.feed import Feed
from compresslab.distillation.learner import Learner, TotalLoss
from compresslab.distillation.preflight import require_trainable
from compresslab.distillation.reduction import reduction
from compresslab.distillation.terms import LossTerm
from compresslab.errors import BadInput, ModelError
from compresslab.measure.groups import groups_of
from compresslab.tasks import EmbeddingTask, Task
from compresslab.teacher import OUTPUT
from compresslab.testing import context, grouped, tiny_embedder
from compresslab.training import Batch


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    path = tmp_path_factory.mktemp("grouped") / "own.npz"
    np.savez(path, **grouped(groups=60))
    return EmbeddingTask(npz=str(path), width=6).load()


def recipe(*losses: dict[str, object], **settings: object) -> Recipe:
    return Recipe.model_validate({"epochs": 1, "batch": 30, "precision": "fp32", "losses": list(losses), **settings})


def batch(task: Task, teacher: torch.Tensor) -> Batch:
    rows = np.arange(len(teacher))
    targets = task.splits["train"].targets
    assert targets is not None
    return Batch(
        torch.from_numpy(task.batch("train", rows, None)), torch.from_numpy(targets[rows]), None, {OUTPUT: teacher}
    )


def drawn(rows: int, width: int) -> torch.Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(1))


def test_without_layers_they_are_between_the_outputs(task: Task) -> None:
    student, given = tiny_embedder(6).network.module, batch(task, drawn(9, 6))
    terms = [LossTerm.model_validate(one).term for one in ({"embedding": {}}, {"similarity": {"weight": 2.0}})]
    learner = Learner(student, terms, given, 0)
    assert not learner.projectors, "of one width nothing is projected"
    outputs, teacher = student(given.inputs), given.teacher[OUTPUT]
    expected = losses.cosine(outputs, teacher) + 2.0 * losses.similarity_kl(outputs, teacher, 0.1)
    assert TotalLoss(terms, task)(learner, given).item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_student_of_another_width_is_projected_for_regression_alone(task: Task) -> None:
    student, given = tiny_embedder(6).network.module, batch(task, drawn(9, 20))
    terms = [LossTerm.model_validate(one).term for one in ({"embedding": {"distance": "mse"}}, {"similarity": {}})]
    learner = Learner(student, terms, given, 0)
    (projected,) = learner.projectors.values()
    outputs, teacher = student(given.inputs), given.teacher[OUTPUT]
    expected = losses.mse(projected(outputs), teacher) + losses.similarity_kl(outputs, teacher, 0.1)
    loss = TotalLoss(terms, task)(learner, given)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    loss.backward()
    assert all(one.grad is not None and one.grad.any() for one in projected.parameters())


def test_components_are_fitted_on_the_teachers_answers_for_the_training_split(task: Task, tmp_path: Path) -> None:
    """By numpy: the first right singular vectors of the centred answers, up to their signs."""
    here = context(tmp_path, task, tiny_embedder(20, seed=3).network)
    assert here.teacher is not None
    here = replace(here, teacher=here.teacher.exact())
    student = tiny_embedder(6).network.module
    how = recipe({"embedding": {"pca": True}})
    terms = how.terms(task, taught=True)
    feed = Feed(here, how, (OUTPUT,), unlabelled=True)
    found = reduction(student, terms, here, feed)
    assert found is not None
    answers = feed.answered("train", feed.view(0), np.arange(len(task.splits["train"].inputs))).astype(float)
    _, sizes, axes = np.linalg.svd(answers - answers.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(np.abs(found.matrix.numpy()), np.abs(axes[:6].T), atol=1e-4)
    assert found.explained == pytest.approx((sizes[:6] ** 2).sum() / (sizes**2).sum(), rel=1e-4)
    given = batch(task, torch.from_numpy(answers[:9]).float())
    learner = Learner(student, terms, given, 0)
    assert not learner.projectors
    expected = losses.cosine(student(given.inputs), given.teacher[OUTPUT] @ found.matrix)
    assert TotalLoss(terms, task, found.matrix)(learner, given).item() == pytest.approx(expected.item(), rel=1e-5)
    learn(student, how, here, "distill")


def test_a_student_wider_than_its_teacher_has_no_components(task: Task, tmp_path: Path) -> None:
    here = context(tmp_path, task, tiny_embedder(4).network)
    with pytest.raises(ModelError, match=r"the student is wider \(6\) than the teacher \(4\); leave `pca` out"):
        require_trainable(recipe({"embedding": {"pca": True}}), tiny_embedder(6).network.module, here.teacher, task)


def test_the_default_recipe_is_cosine_and_similarity_and_the_groups_where_there_are_some(task: Task) -> None:
    names = [(name, term.weight) for name, term in Recipe(epochs=1, kd_weight=0.5).named_terms(task, taught=True)]
    assert names == [("embedding", 0.5), ("similarity", 5.0), ("task", 0.1)]
    train = replace(task.splits["train"], targets=None)
    bare = replace(task, splits={**task.splits, "train": train})
    assert [name for name, _ in Recipe(epochs=1).named_terms(bare, taught=True)] == ["embedding", "similarity"]
    for how, taught in (
        (Recipe(epochs=1), False),
        (Recipe(epochs=1, task_weight=0.5), True),
        (recipe({"margin_mse": {}}), True),
    ):
        with pytest.raises(BadInput, match=r"reads groups of .*, but the training samples of .* have none"):
            how.terms(bare, taught=taught)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"losses": [{"kd": {}}]}, "`kd` is a loss between classes, but own is one of embeddings; use `embedding`"),
        ({"mixup": 0.5}, "`mixup` blends samples of other groups"),
        ({"accumulate": 2}, "`accumulate: 2` parts; leave it out, and lower `batch`"),
        ({"cache": {"top_k": 3}}, "embeddings are needed whole"),
    ],
)
def test_what_is_not_for_embeddings_is_refused(task: Task, settings: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Recipe.model_validate({"epochs": 1, **settings}).terms(task, taught=True)


def test_groups_come_into_one_batch_every_time_in_another_order(task: Task, tmp_path: Path) -> None:
    """In a plain shuffle a query would hardly ever meet its document, and the contrastive loss would teach nothing."""
    feed = Feed(context(tmp_path, task), Recipe(batch=42, epochs=2), (), unlabelled=False)
    seen = []
    for epoch in (0, 1):
        parts = [one.targets.numpy() for one in feed.batches(epoch) if one.targets is not None]
        assert len(parts) == feed.steps
        for targets in parts:
            _, counts = np.unique(groups_of(targets), return_counts=True)
            assert counts.tolist() == [3] * 14, "whole groups of three, as 42 is a multiple of it"
        seen.append(np.concatenate(parts))
    assert not np.array_equal(*seen)
    assert np.array_equal(*(np.sort(one) for one in seen))


def test_layers_come_in_pairs_and_pca_is_of_outputs() -> None:
    with pytest.raises(ValidationError, match="give both `student` and `teacher`"):
        LossTerm.model_validate({"similarity": {"student": "a"}})
    with pytest.raises(ValidationError, match="`pca` is of the teacher's outputs"):
        LossTerm.model_validate({"embedding": {"student": "a", "teacher": "b", "pca": True}})


def test_a_network_that_gives_no_row_a_sample_is_refused(task: Task, tmp_path: Path) -> None:
    class Tokens(nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return inputs[:, None]

    here = context(tmp_path, task, replace(tiny_embedder(6).network, module=Tokens()))
    with pytest.raises(ModelError, match=r"an embedding is one row a sample: \[4, width\]; pool the tokens"):
        require_trainable(recipe({"embedding": {}}), tiny_embedder(6).network.module, here.teacher, task)
