"""A teacher's embeddings brought to the width of a narrower student: by the directions in which they vary most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from compresslab.distillation.feed import Feed
from compresslab.errors import BadInput
from compresslab.losses import principal_components
from compresslab.teacher import OUTPUT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from compresslab.distillation.recipe import Recipe
    from compresslab.distillation.seen import Term
    from compresslab.stage import Context

_SAMPLED = 10_000


@dataclass(frozen=True)
class Reduction:
    """`embeddings @ matrix`, the mean left in, as cosines count; `explained` is the share of the variance kept."""

    matrix: Tensor
    explained: float

    def plain(self) -> dict[str, Any]:
        """For a step's decisions."""
        wide, narrow = self.matrix.shape
        return {"from": wide, "to": narrow, "explained": round(self.explained, 4)}


def reduction(module: nn.Module, terms: Sequence[Term], context: Context, feed: Feed) -> Reduction | None:
    """Fitted on the teacher's answers for up to 10,000 samples of the training split; None where no term asks for it.

    Args:
        module: The student, whose output says how wide it is.
        terms: Of the loss.
        context: The task, and the teacher.
        feed: Has asked the teacher.

    Raises:
        BadInput: The student is wider than the teacher, or there are fewer samples than it is wide.
    """
    if context.teacher is None or not any(term.reduced for term in terms):
        return None
    rows = np.unique(np.linspace(0, len(context.task.splits["train"].inputs) - 1, _SAMPLED).astype(np.int64))
    answers = feed.answered("train", feed.view(0), rows)
    width = require_narrower(
        output_width(module, torch.from_numpy(context.task.batch("train", rows[:2], None))), answers.shape[1]
    )
    try:
        found = principal_components(answers, width)
    except ValueError as error:
        raise BadInput(f"`pca`: {error}") from error
    return Reduction(torch.from_numpy(found.matrix).float(), found.explained)


def told(module: nn.Module, recipe: Recipe, context: Context) -> dict[str, Any]:
    """What a step's decisions say of it; empty where there is none."""
    terms = recipe.terms(context.task, taught=context.teacher is not None)
    if not any(term.reduced for term in terms):
        return {}
    feed = Feed(context, recipe.model_copy(update={"epochs": 1}), (OUTPUT,), unlabelled=False)
    found = reduction(module, terms, context, feed)
    return {} if found is None else {"pca": found.plain()}


def require_narrower(student: int, teacher: int) -> int:
    """The student's width, if the teacher has as many components.

    Raises:
        BadInput: It has not.
    """
    if student > teacher:
        raise BadInput(
            f"`pca` brings the teacher's embeddings to the student's width, but the student is wider ({student}) than "
            f"the teacher ({teacher}); leave `pca` out, and the student is projected"
        )
    return student


def output_width(module: nn.Module, inputs: Tensor) -> int:
    """Columns of a network's output; it is left in the mode that it was in."""
    was_training = module.training
    module.eval()
    with torch.no_grad():
        width = int(module(inputs).shape[1])
    module.train(was_training)
    return width
