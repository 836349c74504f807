"""What commonly goes wrong in a distillation, looked for after each one and told in the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax, logsumexp

from compresslab.distillation.feed import Feed
from compresslab.distillation.scoring import predicted
from compresslab.measure.embedding_metrics import alike
from compresslab.teacher import OUTPUT

if TYPE_CHECKING:
    from torch import nn

    from compresslab.distillation.recipe import Recipe
    from compresslab.stage import Context

# A student that was given enough room and time explains well over nine tenths of its teacher on what it trained on.
EXPLAINED_AT_LEAST = 0.8
SAMPLES_PER_CLASS = 50
# A class that the teacher names this many times less often than its equal share of the training samples is hardly
# distilled at all.
_RARE = 10
_SAMPLED = 2000
# Answers that are all the same differ from their mean by less.
_ROUNDING = 1e-12

Floats = npt.NDArray[np.float32]


def explained(module: nn.Module, recipe: Recipe, context: Context) -> float:
    """The share of the teacher's answers on the training samples that the student reproduces.

    1 - KL(teacher || student) / KL(teacher || the teacher's mean answer) for classes, at T = 1; the same with squared
    differences for a regression. 1 is a perfect copy, 0 is as good as always giving the mean answer. Of embeddings,
    which may differ in width, it is the share of the variance of the teacher's cosines between samples that is linear
    in the student's; 0 also where they run against each other.
    """
    assert context.teacher is not None, "there is a teacher to be explained"
    task = context.task
    feed = Feed(context, recipe.model_copy(update={"epochs": 1}), (OUTPUT,), unlabelled=True)
    rows = np.unique(np.linspace(0, len(task.splits["train"].inputs) - 1, _SAMPLED).astype(np.int64))
    view = feed.view(0)
    teacher = feed.answered("train", view, rows)
    student = predicted(module, task, "train", rows, view, recipe.mixup)
    if task.kind == "embedding":
        return max(alike(student, teacher), 0.0) ** 2
    return explained_share(student, teacher, classes=bool(task.labels))


def explained_share(student: Floats, teacher: Floats, *, classes: bool) -> float:
    """See `explained`, from outputs [n, outputs]; 0 of a teacher that always answers the same."""
    theirs, ours = teacher.astype(np.float64), student.astype(np.float64)
    if not classes:
        spread, missed = ((theirs - theirs.mean(axis=0)) ** 2).mean(), ((theirs - ours) ** 2).mean()
        rounding = _ROUNDING * (theirs**2).mean()
    else:
        log_p, log_q = log_softmax(theirs, axis=1), log_softmax(ours, axis=1)
        p = np.exp(log_p)
        log_mean = logsumexp(log_p, axis=0) - np.log(len(log_p))  # finite also of a class that the teacher rules out
        spread, missed = (p * (log_p - log_mean)).mean(), (p * (log_p - log_q)).mean()
        rounding = _ROUNDING
    return float(1 - missed / spread) if spread > rounding else 0.0


def warnings(recipe: Recipe, context: Context, share: float) -> tuple[str, ...]:
    """What to tell of a finished distillation; `share` is what `explained` found."""
    task = context.task
    told = []
    if share < EXPLAINED_AT_LEAST:
        told.append(
            f"capacity gap: on the training samples the student reproduces only {max(share, 0.0):.0%} of the teacher's "
            "answers; a larger student, a smaller teacher between the two, or longer training would help"
        )
    feed = Feed(context, recipe.model_copy(update={"epochs": 1}), (OUTPUT,), unlabelled=True)
    total = feed.samples
    if task.labels and total < SAMPLES_PER_CLASS * len(task.labels):
        told.append(
            f"little transfer data: {total} samples for {len(task.labels)} classes; add unlabelled ones as `transfer`"
        )
    if task.labels:
        named = np.concatenate([
            feed.answered(split, feed.view(0), np.arange(len(task.splits[split].inputs))).argmax(axis=1)
            for split in feed.splits
        ])  # fmt: skip
        counts = np.bincount(named, minlength=len(task.labels))
        rare = [label for label, count in zip(task.labels, counts, strict=True)
                if count * _RARE * len(task.labels) < len(task.splits["train"].inputs)]  # fmt: skip
        if rare:
            told.append(
                f"class coverage: the teacher hardly ever names {', '.join(f'`{label}`' for label in rare[:5])}"
                f"{' and others' if len(rare) > 5 else ''} on the samples that the student learns from; add some of "
                "them, labelled or as `transfer`"
            )
    return tuple(told)
