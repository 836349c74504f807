"""learn(): one network on one task, with a teacher where there is one; every training stage and recovery calls it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from compresslab.distillation.feed import Feed
from compresslab.distillation.learner import Learner, TotalLoss
from compresslab.distillation.recipe import Recipe
from compresslab.distillation.reduction import reduction
from compresslab.teacher import OUTPUT
from compresslab.training import Epoch, FitSettings, epoch_order, fit

if TYPE_CHECKING:
    from torch import nn

    from compresslab.stage import Context

_EXAMPLES = 2


def learn(
    module: nn.Module, recipe: Recipe, context: Context, phase: str, until: int | None = None
) -> tuple[Epoch, ...]:
    """Trains `module` in place on the task's training split, by `recipe`, and returns one record an epoch.

    Without a teacher in the context the task's own loss is used alone.

    Args:
        module: The network.
        recipe: How; its layers' names must be those of the networks.
        context: Task, teacher, seed, and where checkpoints go.
        phase: What to call this training in progress and errors.
        until: Stops after this many of the epochs; the same call with more goes on from there.

    Raises:
        Diverged: The loss became NaN or infinite.
        BadInput: The recipe does not fit the task or the networks.
    """
    terms = recipe.terms(context.task, taught=context.teacher is not None)
    recipe.require_layers(module, None)
    wanted = [theirs for term in terms for _, theirs in term.layers]
    if any(term.reads_teacher and not term.layers for term in terms):
        wanted.insert(0, OUTPUT)
    feed = Feed(context, recipe, list(dict.fromkeys(wanted)), unlabelled=bool(wanted))
    learner = Learner(module, terms, feed.first(_EXAMPLES), context.seed)
    found = reduction(module, terms, context, feed)
    loss = TotalLoss(terms, context.task, None if found is None else found.matrix)
    return fit(
        learner, feed.batches, feed.steps, loss, recipe,
        seed=context.seed, device=context.device, scratch=context.scratch, progress=context.progress, phase=phase,
        until=until,
    )  # fmt: skip


def control_of(recipe: Recipe, context: Context) -> Recipe:
    """The same training without distillation and at the same cost: as many steps, on the labels alone."""
    task = context.task
    settings = FitSettings(**recipe.model_dump(include=set(FitSettings.model_fields)))
    alone = Recipe(**settings.model_dump(), kd_weight=0.0, task_weight=1.0, views=recipe.views, mixup=recipe.mixup)
    if "transfer" not in task.splits:
        return alone
    taught = Feed(replace(context, teacher=None), recipe, (), unlabelled=True).steps
    labelled = len(epoch_order(len(task.splits["train"].inputs), recipe.batch, context.seed, 0))
    return alone.model_copy(update={"epochs": max(1, round(recipe.epochs * taught / labelled))})
