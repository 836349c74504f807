"""Whether a recipe's loss can be computed of these networks, tried on a few samples before anything is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from compresslab.distillation.learner import Learner, TotalLoss
from compresslab.errors import BadInput, ModelError
from compresslab.models.taps import tapped
from compresslab.teacher import OUTPUT, NetworkTeacher
from compresslab.training import Batch

if TYPE_CHECKING:
    from torch import nn

    from compresslab.distillation.recipe import Recipe
    from compresslab.tasks import Task
    from compresslab.teacher import Teacher

_SAMPLES = 4


def require_trainable(recipe: Recipe, student: nn.Module, teacher: Teacher | None, task: Task) -> None:
    """Computes the loss of a few training samples.

    Args:
        recipe: Its layers must be there, and its terms fit each other.
        student: The network that would learn; left as it was.
        teacher: Whom it would learn from.
        task: The data.

    Raises:
        ModelError: A layer is missing, or features do not fit each other.
        DataError: The teacher cannot answer for such samples.
    """
    terms = recipe.terms(task, taught=teacher is not None)
    recipe.require_layers(student, teacher.module if isinstance(teacher, NetworkTeacher) else None)
    names = list(dict.fromkeys(theirs for term in terms for _, theirs in term.layers))
    if teacher is not None and any(term.reads_teacher for term in terms):
        teacher.require(recipe.mixup, [OUTPUT, *names])
    if not names or not isinstance(teacher, NetworkTeacher):
        return
    split = task.splits["train"]
    rows = np.arange(min(_SAMPLES, len(split.inputs)))
    inputs = torch.from_numpy(task.batch("train", rows, None))
    modes = student.training, teacher.module.training
    student.eval()
    teacher.module.eval()
    try:
        with torch.no_grad():
            with tapped(teacher.module, names) as seen:
                answers = {OUTPUT: teacher.module(inputs)}
            targets = None if split.targets is None else torch.from_numpy(split.targets[rows])
            batch = Batch(inputs, targets, None, {**answers, **seen})
            TotalLoss(terms, task)(Learner(student, terms, batch, 0), batch)
    except BadInput:
        raise
    except (RuntimeError, ValueError, TypeError, KeyError) as error:
        named = ", ".join(f"`{entry.name}`" for entry in recipe.losses or () if entry.term.layers)
        raise ModelError(f"the losses on features ({named}) cannot be computed: {error}") from error
    finally:
        student.train(modes[0])
        teacher.module.train(modes[1])
