"""Training a network on a task, with a teacher where there is one: what every training stage and recovery shares."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from compresslab.losses import kd
from compresslab.training import Batch, Epoch, FitSettings, epoch_order, fit

if TYPE_CHECKING:
    from compresslab.stage import Context


class Recipe(FitSettings):
    """How a network is trained with the teacher's help."""

    temperature: float = Field(4.0, gt=0)
    """T of the soft targets."""
    kd_weight: float = Field(0.9, ge=0)
    """Weight of T^2 * KL to the teacher; 0 for a control without distillation."""
    task_weight: float = Field(0.1, ge=0)
    """Weight of the task's own loss on the labels."""
    views: int | None = Field(None, ge=1)
    """Augmented views of the training split that the epochs cycle through; null for a new one each epoch. The
    teacher answers each view once, so fewer views cost less teacher time and give less variety."""


def learn(module: nn.Module, recipe: Recipe, context: Context, phase: str) -> tuple[Epoch, ...]:
    """Trains `module` in place on the task's training split, by `recipe`, and returns one record an epoch.

    Without a teacher in the context, or with `kd_weight: 0`, the task's loss is used alone.
    """
    task, teacher = context.task, context.teacher
    split = task.splits["train"]
    samples = len(split.inputs)
    steps = len(epoch_order(samples, recipe.batch, context.seed, 0))
    # Where nothing is augmented all views are the same, and the teacher has to answer one only.
    views = 1 if task.augmentation.changes_nothing else recipe.views

    def view_seed(epoch: int) -> int:
        # Views are numbered from the pipeline's seed, so that every stage of a run reads the same teacher outputs.
        return context.seed * 1_000_003 + (epoch if views is None else epoch % views)

    answers: dict[int, np.ndarray] = {}
    if teacher is not None and recipe.kd_weight > 0:
        seeds = dict.fromkeys(view_seed(epoch) for epoch in range(recipe.epochs))
        answers = {seed: teacher.view("train", seed, context.progress) for seed in seeds}

    def batches(epoch: int) -> Iterator[Batch]:
        seed = view_seed(epoch)
        logits = answers.get(seed)
        for rows in epoch_order(samples, recipe.batch, context.seed, epoch):
            yield Batch(
                torch.from_numpy(task.batch("train", rows, seed)),
                None if split.targets is None else torch.from_numpy(split.targets[rows]),
                None if logits is None else torch.from_numpy(np.ascontiguousarray(logits[rows])),
            )

    def loss(net: nn.Module, batch: Batch) -> Tensor:
        outputs = net(batch.inputs)
        terms = []
        if batch.teacher is not None:
            terms.append(recipe.kd_weight * kd(outputs, batch.teacher, recipe.temperature))
        if batch.targets is not None and (recipe.task_weight > 0 or batch.teacher is None):
            weight = recipe.task_weight if batch.teacher is not None else 1.0
            terms.append(weight * task.loss(outputs, batch.targets))
        return torch.stack(terms).sum()

    return fit(
        module, batches, steps, loss, recipe,
        seed=context.seed, device=context.device, scratch=context.scratch, progress=context.progress, phase=phase,
    )  # fmt: skip
