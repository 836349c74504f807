"""Whether a recipe's loss can be computed of these networks, tried on a few samples before anything is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from compresslab.distillation.learner import Learner, TotalLoss
from compresslab.distillation.reduction import output_width, require_narrower
from compresslab.errors import BadInput, ModelError
from compresslab.models.taps import tapped
from compresslab.teacher import OUTPUT, NetworkTeacher
from compresslab.teacher.answers import require_columns
from compresslab.training import Batch

if TYPE_CHECKING:
    from torch import nn

    from compresslab.distillation.recipe import Recipe
    from compresslab.distillation.terms import Term
    from compresslab.tasks import Task
    from compresslab.teacher import Teacher

_SAMPLES = 4


def require_trainable(recipe: Recipe, student: nn.Module, teacher: Teacher | None, task: Task) -> None:
    """Computes every term of the loss of a few training samples.

    Args:
        recipe: Its layers must be there, and its terms fit each other.
        student: The network that would learn; left as it was.
        teacher: Whom it would learn from.
        task: The data.

    Raises:
        BadInput: A term is for classes, and the task has none; or a share of unlabelled samples is asked for, and there
            are none.
        ModelError: A layer is missing, outputs or features do not fit each other, or the batch is too small for a term.
        DataError: The teacher cannot answer for such samples.
    """
    recipe.require_transfer(task)
    terms = recipe.named_terms(task, taught=teacher is not None)
    recipe.require_layers(student, teacher.module if isinstance(teacher, NetworkTeacher) else None)
    if teacher is None or not recipe.reads_teacher(task):
        return
    layers = list(dict.fromkeys(theirs for _, term in terms for _, theirs in term.layers))
    teacher.require(recipe.mixup, [OUTPUT, *layers])
    if not isinstance(teacher, NetworkTeacher):
        return
    # No more than the smallest part of a batch has: a relation between samples may need more.
    count = min(_SAMPLES, max(1, recipe.batch // recipe.accumulate), len(task.splits["train"].inputs))
    modes = student.training, teacher.module.training
    student.eval()
    teacher.module.eval()
    try:
        with torch.no_grad():
            batch = _answered(teacher.module, layers, task, np.arange(count))
            for name, term in terms:
                _require_computed(name, term, student, batch, task)
    finally:
        student.train(modes[0])
        teacher.module.train(modes[1])


def _answered(teacher: nn.Module, layers: list[str], task: Task, rows: npt.NDArray[np.int64]) -> Batch:
    split = task.splits["train"]
    inputs = torch.from_numpy(task.batch("train", rows, None))
    place = next((parameter.device for parameter in teacher.parameters()), inputs.device)
    with tapped(teacher, layers) as seen:
        outputs = teacher(inputs.to(place)).cpu()
    require_columns("the teacher", tuple(outputs.shape), len(rows), task)
    targets = None if split.targets is None else torch.from_numpy(split.targets[rows])
    return Batch(inputs, targets, None, {OUTPUT: outputs, **{name: values.cpu() for name, values in seen.items()}})


def _require_computed(name: str, term: Term, student: nn.Module, batch: Batch, task: Task) -> None:
    try:
        if term.layers and task.preprocessing.kind == "text":
            _require_whole_texts(term, student, batch)
        reduction = None
        if term.reduced:
            wide = batch.teacher[OUTPUT].shape[1]
            reduction = torch.eye(wide, require_narrower(output_width(student, batch.inputs), wide))
        TotalLoss([term], task, reduction)(Learner(student, [term], batch, 0), batch)
    except BadInput as error:
        raise ModelError(f"`{name}`: {error}") from error
    except (RuntimeError, ValueError, TypeError, KeyError) as error:
        raise ModelError(f"`{name}` cannot be computed: {error}") from error


def _require_whole_texts(term: Term, student: nn.Module, batch: Batch) -> None:
    """Refuses layers that answer token by token: padding would count, and vocabularies of two networks may differ."""
    names = [ours for ours, _ in term.layers]
    with tapped(student, names) as seen:
        student(batch.inputs)
    for ours, theirs in term.layers:
        for whose, name, features in (("student", ours, seen[ours]), ("teacher", theirs, batch.teacher[theirs])):
            if features.ndim > 2:
                raise ModelError(
                    f"the {whose}'s layer `{name}` answers for each token of a text, {list(features.shape)}, and "
                    "features of texts are compared by text: name a layer behind the pooling, [batch, width], or learn "
                    "from the outputs by `embedding`, `similarity` or `kd`"
                )
