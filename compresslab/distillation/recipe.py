"""How a network is trained with the teacher's help."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field, model_validator

from compresslab.distillation.sampling import Sampling
from compresslab.distillation.terms import Embedding, Huber, Kd, LossTerm, Similarity, TaskTerm, Term
from compresslab.errors import BadInput
from compresslab.models.taps import require_layers

if TYPE_CHECKING:
    from torch import nn

    from compresslab.tasks import Task

_SHORT = ("temperature", "kd_weight", "task_weight")
# Of the similarities between embeddings; the weight is its inverse, so that the gradient is that of the distributions.
_SIMILARITY = 0.1
_KINDS = {"classification": "a classification", "regression": "a regression", "embedding": "one of embeddings"}


class Recipe(Sampling):
    """How a network is trained with the teacher's help.

    The loss is `kd_weight` * T^2 * KL to the teacher + `task_weight` * the task's own loss, or what `losses` lists.
    Between embeddings it is `kd_weight` * (1 - cosine + KL of the similarities within a batch), and the task's own loss
    only where the training samples have groups.
    """

    temperature: float = Field(4.0, gt=0)
    """T of the soft targets of classes."""
    kd_weight: float = Field(0.9, ge=0)
    """Weight of the teacher: T^2 * KL for classes, Huber for a regression, cosine and similarities for embeddings; 0
    for a control without distillation."""
    task_weight: float = Field(0.1, ge=0)
    """Weight of the task's own loss on the labels."""
    losses: Annotated[tuple[LossTerm, ...], Field(strict=False, min_length=1)] | None = None
    """The terms of the loss, instead of `temperature`, `kd_weight` and `task_weight`; they are added up. Terms of the
    teacher are means over all samples, terms of the labels over the labelled ones."""

    @model_validator(mode="after")
    def _check_losses(self) -> Recipe:
        if self.losses is None:
            return self
        # Compared with the defaults: a lock file writes these out beside `losses`.
        both = [name for name in _SHORT if getattr(self, name) != type(self).model_fields[name].default]
        if both:
            raise ValueError(
                f"`losses` says all of the loss, but {' and '.join(f'`{name}`' for name in both)} is given too; give "
                "weights and temperatures inside `losses`"
            )
        for entry in self.losses:
            if self.mixup and entry.term.reads_labels:
                raise ValueError(
                    f"`{entry.name}` needs the one class of each sample, which `mixup` blends away; use `kd` or `dist`"
                )
        return self

    def terms(self, task: Task, *, taught: bool) -> tuple[Term, ...]:
        """The terms with a weight; without a teacher the task's own loss alone.

        Raises:
            BadInput: A term is for classes or groups, and the task has none, or samples cannot be mixed.
        """
        return tuple(term for _, term in self.named_terms(task, taught=taught))

    def named_terms(self, task: Task, *, taught: bool) -> tuple[tuple[str, Term], ...]:
        """As `terms`, each with what it is called in `losses`."""
        labelled = task.splits["train"].targets is not None
        if not taught:
            named: list[tuple[str, Term]] = [("task", TaskTerm())]
        elif self.losses is not None:
            named = [(entry.name, entry.term) for entry in self.losses]
        else:
            named = self._of_teacher(task)
            if labelled or self.task_weight not in (0, type(self).model_fields["task_weight"].default):
                named.append(("task", TaskTerm(weight=self.task_weight)))
        kept = tuple((name, term) for name, term in named if term.weight > 0)
        # A control trains on the whole loss of the task, not on the tenth that distillation leaves it.
        if not any(term.reads_teacher for _, term in kept):
            kept = (("task", TaskTerm()),)
        for name, term in kept:
            self._require_fit(name, term, task)
        return kept

    def _of_teacher(self, task: Task) -> list[tuple[str, Term]]:
        if task.kind == "embedding":
            similarity = Similarity(weight=self.kd_weight / _SIMILARITY, temperature=_SIMILARITY)
            return [("embedding", Embedding(weight=self.kd_weight)), ("similarity", similarity)]
        if task.kind == "regression":
            return [("huber", Huber(weight=self.kd_weight))]
        return [("kd", Kd(weight=self.kd_weight, temperature=self.temperature))]

    def _require_fit(self, name: str, term: Term, task: Task) -> None:
        kind = _KINDS[task.kind]
        if term.reads_classes and term.reads_teacher and not task.labels:
            use = "`embedding` or `similarity`" if task.kind == "embedding" else "`huber`"
            raise BadInput(f"`{name}` is a loss between classes, but {task.name} is {kind}; use {use}")
        if task.kind != "embedding":
            if term.reads_groups:
                raise BadInput(
                    f"`{name}` is a loss between queries and documents, but {task.name} is {kind}; leave it out"
                )
            return
        if self.mixup:
            raise BadInput(f"`mixup` blends samples of other groups, and {task.name} is {kind}; leave it out")
        if self.cache.top_k is not None:
            raise BadInput("`cache: {top_k}` keeps the largest logits, but embeddings are needed whole; leave it out")
        if not (name == "task" or term.reads_groups):
            return
        if task.splits["train"].targets is None:
            raise BadInput(
                f"`{name}` reads groups of queries and documents, but the training samples of {task.name} have none; "
                "give a teacher, losses between embeddings and `task_weight: 0`, or groups in the task"
            )
        if self.accumulate > 1:
            raise BadInput(
                f"`{name}` needs queries beside their documents, which `accumulate: {self.accumulate}` parts; leave it "
                "out, and lower `batch` instead"
            )

    def reads_teacher(self, task: Task) -> bool:
        """Whether a teacher that is there is asked anything.

        Raises:
            BadInput: A term is for classes, and the task has none.
        """
        return any(term.reads_teacher for term in self.terms(task, taught=True))

    def require_layers(self, student: nn.Module, teacher: nn.Module | None) -> None:
        """Checks the names of layers in `losses`.

        Args:
            student: The network that will learn.
            teacher: The network it learns from; None where the teacher is none.

        Raises:
            ModelError: A layer is missing; the message says which there are.
        """
        for entry in self.losses or ():
            ours, theirs = zip(*entry.term.layers, strict=True) if entry.term.layers else ((), ())
            require_layers(student, ours, f"`{entry.name}`: the student")
            if teacher is not None:
                require_layers(teacher, theirs, f"`{entry.name}`: the teacher")
