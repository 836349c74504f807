"""The batches of a training: which samples, which pixels, which labels, and what the teacher says of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from compresslab.data.alike import batches_alike
from compresslab.teacher import OUTPUT, Answers, Question
from compresslab.training import Batch, epoch_order

if TYPE_CHECKING:
    from compresslab.distillation.sampling import Sampling
    from compresslab.stage import Context

Rows = npt.NDArray[np.int64]

_TRAIN, _TRANSFER = "train", "transfer"


class Feed:
    """Batches by epoch, the same ones whenever they are asked for.

    Args:
        context: Task, teacher and seed.
        recipe: How many samples, views and mixtures.
        outputs: What the teacher is asked for; empty where nothing reads it.
        unlabelled: Whether anything is learned from samples without labels; otherwise they stay away.
    """

    def __init__(self, context: Context, recipe: Sampling, outputs: Sequence[str], *, unlabelled: bool) -> None:
        self._context = context
        self._recipe = recipe
        self._outputs = tuple(outputs)
        task = context.task
        self._labelled = len(task.splits[_TRAIN].inputs)
        there = len(task.splits[_TRANSFER].inputs) if _TRANSFER in task.splits and unlabelled else 0
        ratio = recipe.transfer_ratio
        self._unlabelled = there if ratio is None or not there else max(1, round(ratio * self._labelled))
        # Where nothing is augmented or mixed all views are the same, and the teacher has to answer one only.
        self._views = 1 if task.augmentation.changes_nothing and not recipe.mixup else recipe.views
        self.steps = len(epoch_order(self._labelled + self._unlabelled, recipe.batch, context.seed, 0))
        self._together = task.together(_TRAIN)
        self._answers = self._ask()

    def view(self, epoch: int) -> int:
        """The augmentation seed of an epoch.

        Views are numbered from the pipeline's seed, so that every stage of a run reads the same teacher outputs.
        """
        return self._context.seed * 1_000_003 + (epoch if self._views is None else epoch % self._views)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """The batches of an epoch."""
        transfer = self._transfer_rows(epoch)
        total = self._labelled + self._unlabelled
        for order in self._orders(total, epoch, transfer):
            train = order[order < self._labelled]
            parts = [self._part(_TRAIN, train, self.view(epoch))]
            if len(train) < len(order):
                rows = transfer[order[order >= self._labelled] - self._labelled]
                parts.append(self._part(_TRANSFER, rows, self.view(epoch)))
            yield parts[0] if len(parts) == 1 else _joined(self._of_one_length(parts))

    def _orders(self, total: int, epoch: int, transfer: Rows) -> list[Rows]:
        """The samples of every batch; those of a group of queries and documents as far as they fit into one.

        Texts without groups are beside others of their length.
        """
        orders = epoch_order(total, self._recipe.batch, self._context.seed, epoch)
        if self._together is None:
            lengths = self._lengths(transfer)
            if lengths is None:
                return orders
            return batches_alike(orders, lengths, np.random.default_rng([self._context.seed, epoch, 3]))
        rng = np.random.default_rng([self._context.seed, epoch, 2])
        _, number = np.unique(self._together, return_inverse=True)
        groups = np.concatenate([number, number.max() + 1 + np.arange(total - len(number))])
        # Groups in a random order, and the samples of each in one, of which there may be more than a batch takes.
        order = np.lexsort((rng.permutation(total), rng.permutation(int(groups.max()) + 1)[groups]))
        size = len(orders[0])
        return [order[start : start + size] for start in range(0, len(orders) * size, size)]

    def _lengths(self, transfer: Rows) -> Rows | None:
        """Of each sample of an epoch, those of the transfer split last; None where all are of one shape."""
        task = self._context.task
        labelled = task.lengths(_TRAIN)
        if labelled is None or not len(transfer):
            return labelled
        others = task.lengths(_TRANSFER)
        return None if others is None else np.concatenate([labelled, others[transfer]])

    @property
    def splits(self) -> tuple[str, ...]:
        """Where the samples are from."""
        return (_TRAIN, _TRANSFER) if self._unlabelled else (_TRAIN,)

    @property
    def samples(self) -> int:
        """Samples in an epoch, labelled or not."""
        return self._labelled + self._unlabelled

    def answered(self, split: str, view: int, rows: Rows) -> npt.NDArray[np.float32]:
        """The teacher's outputs for some rows of a view that an epoch shows."""
        return np.asarray(self._answers[split, view].of(rows)[OUTPUT])

    def first(self, count: int) -> Batch:
        """A few training samples as the first epoch shows them."""
        return self._part(_TRAIN, np.arange(min(count, self._labelled)), self.view(0))

    def _ask(self) -> dict[tuple[str, int], Answers]:
        teacher = self._context.teacher
        if teacher is None or not self._outputs:
            return {}
        recipe = self._recipe
        views = dict.fromkeys(self.view(epoch) for epoch in range(recipe.epochs))
        return {
            (split, view): teacher.answers(
                Question(split, view, recipe.mixup, self._outputs, recipe.cache), self._context.progress
            )
            for view in views
            for split in self.splits
        }

    def _transfer_rows(self, epoch: int) -> Rows:
        """Rows of the transfer split for an epoch: each once before any comes twice."""
        if not self._unlabelled:
            return np.empty(0, np.int64)
        there = len(self._context.task.splits[_TRANSFER].inputs)
        start = epoch * self._unlabelled
        rounds = range(start // there, (start + self._unlabelled - 1) // there + 1)
        orders = [np.random.default_rng([self._context.seed, 1, one]).permutation(there) for one in rounds]
        first = start - rounds.start * there
        return np.concatenate(orders)[first : first + self._unlabelled]

    def _part(self, split: str, rows: Rows, view: int) -> Batch:
        task, mixup = self._context.task, self._recipe.mixup
        answers = self._answers.get((split, view))
        teacher = {} if answers is None else answers.of(rows)
        return Batch(
            torch.from_numpy(task.batch(split, rows, view, mixup)),
            self._targets(split, rows, view),
            None,
            {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in teacher.items()},
        )

    def _of_one_length(self, parts: Sequence[Batch]) -> Sequence[Batch]:
        """Texts are padded to the longest of what is joined."""
        how = self._context.task.preprocessing
        if how.kind != "text":
            return parts
        width = max(part.inputs.shape[1] for part in parts)
        return [
            replace(part, inputs=functional.pad(part.inputs, (0, width - part.inputs.shape[1]), value=how.pad_id))
            for part in parts
        ]

    def _targets(self, split: str, rows: Rows, view: int) -> torch.Tensor | None:
        """Classes or groups [b], or shares of each class [b, classes] where samples are mixed, or numbers [b]."""
        task, mixup = self._context.task, self._recipe.mixup
        targets = task.splits[split].targets
        if targets is None:
            return None
        if not mixup:
            return torch.from_numpy(targets[rows])
        partners, shares = task.mixing(split, rows, view, mixup)
        ours, theirs = self._as_numbers(targets[rows]), self._as_numbers(targets[partners])
        own = shares.reshape(-1, *[1] * (ours.ndim - 1))
        return torch.from_numpy(own * ours + (1 - own) * theirs)

    def _as_numbers(self, targets: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
        """Targets that may be blended: a one for the class of each sample, or the numbers themselves."""
        if not self._context.task.labels:
            return targets.astype(np.float32)
        return np.eye(len(self._context.task.labels), dtype=np.float32)[targets.astype(np.int64)]


def _joined(parts: Sequence[Batch]) -> Batch:
    """Labelled samples first; the others have no targets."""
    labelled, unlabelled = parts
    count = len(unlabelled.inputs)
    known = torch.cat([torch.ones(len(labelled.inputs), dtype=torch.bool), torch.zeros(count, dtype=torch.bool)])
    targets = labelled.targets
    if targets is not None:
        # Fillers, so that a batch has one row a sample; `labelled` says which count.
        targets = torch.cat([targets, targets.new_zeros(count, *targets.shape[1:])])
    return Batch(
        torch.cat([labelled.inputs, unlabelled.inputs]),
        targets,
        known,
        {name: torch.cat([values, unlabelled.teacher[name]]) for name, values in labelled.teacher.items()},
    )
