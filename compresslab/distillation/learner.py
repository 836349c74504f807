"""The student with all that is trained beside it, and the loss of what both give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from compresslab.distillation.terms import Seen, Term
from compresslab.losses import projector
from compresslab.models.taps import tapped
from compresslab.teacher import OUTPUT
from compresslab.world import everywhere

if TYPE_CHECKING:
    from compresslab.tasks import Task
    from compresslab.training import Batch


class Learner(nn.Module):
    """The student, and the projectors of its features or outputs, which are thrown away after the training.

    Args:
        student: The network that learns.
        terms: What the loss is made of.
        example: A few samples with the teacher's answers, from which the projectors take their shapes.
        seed: Of the projectors' weights.
    """

    def __init__(self, student: nn.Module, terms: Sequence[Term], example: Batch, seed: int) -> None:
        super().__init__()
        self.student = student
        self._layers = [[ours for ours, _ in term.layers] for term in terms]
        self._names = sorted({name for layers in self._layers for name in layers})
        self.projectors = nn.ModuleDict()
        if not any(term.projected for term in terms):
            return
        seen, outputs = self._example(example)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for index, term in enumerate(terms):
                if not term.projected:
                    continue
                for place, (ours, theirs) in enumerate(term.layers):
                    shapes = seen[ours].shape, example.teacher[theirs].shape
                    self.projectors[_key(index, place)] = projector(*shapes)
                widths = outputs.shape, example.teacher[OUTPUT].shape if OUTPUT in example.teacher else outputs.shape
                if not term.layers and not term.reduced and widths[0] != widths[1]:
                    self.projectors[_output(index)] = projector(*widths)

    def forward(self, inputs: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The student's outputs, and its features by term and layer, projected where the term asks for it."""
        with tapped(self.student, self._names) as seen:
            outputs = self.student(inputs)
        features = {}
        for index, layers in enumerate(self._layers):
            for place, name in enumerate(layers):
                key = _key(index, place)
                features[key] = self.projectors[key](seen[name]) if key in self.projectors else seen[name]
            if _output(index) in self.projectors:
                features[_output(index)] = self.projectors[_output(index)](outputs)
        return outputs, features

    def _example(self, example: Batch) -> tuple[Mapping[str, Tensor], Tensor]:
        was_training = self.student.training
        self.student.eval()
        with torch.no_grad(), tapped(self.student, self._names) as seen:
            outputs = self.student(example.inputs)
        self.student.train(was_training)
        return dict(seen), outputs


class TotalLoss:
    """The loss of a learner on a batch: the weighted sum of the terms.

    Args:
        terms: With their weights.
        task: Whose own loss the task's term is.
        reduction: What brings the teacher's outputs to the student's width [teacher's, student's], for terms that ask
            for it.
    """

    def __init__(self, terms: Sequence[Term], task: Task, reduction: Tensor | None = None) -> None:
        self._terms = tuple(terms)
        self._task = task
        self._reduction = reduction
        # Here, so that what makes them comes before the training, and not within its first step and its progress.
        self._others = None if task.anchors is None else task.anchors.embeddings

    def __call__(self, learner: nn.Module, batch: Batch) -> Tensor:
        """A scalar. With several processes every one computes it of the whole batch."""
        outputs, features = learner(batch.inputs)
        outputs = everywhere(outputs)
        features = {key: everywhere(values) for key, values in features.items()}
        whole = batch.gathered()
        targets = whole.targets
        if targets is not None and whole.labelled is not None:
            targets = targets[whole.labelled]
        teacher = whole.teacher.get(OUTPUT)
        values = []
        for index, term in enumerate(self._terms):
            seen = Seen(
                outputs=outputs,
                teacher=self._reduced(teacher) if term.reduced else teacher,
                features=tuple(features[_key(index, place)] for place in range(len(term.layers))),
                teacher_features=tuple(whole.teacher[theirs] for _, theirs in term.layers),
                targets=targets,
                labelled=whole.labelled,
                task_loss=self._task.loss,
                scale=self._task.target_scale,
                labelled_weight=labelled_weight(whole.labelled, batch.labelled_share),
                projected=features.get(_output(index)),
                others=self._others,
            )
            values.append(term.weight * term.value(seen))
        return torch.stack(values).sum()

    def _reduced(self, teacher: Tensor | None) -> Tensor | None:
        if teacher is None or self._reduction is None:
            return teacher
        return teacher.float() @ self._reduction.to(teacher.device)


def labelled_weight(labelled: Tensor | None, share: float | None) -> float:
    """What a mean over the labelled samples of a part of a batch counts, by their share in part and whole."""
    return 1.0 if labelled is None or not share else float(labelled.float().mean()) / share


def _key(term: int, place: int) -> str:
    return f"term{term}layer{place}"


def _output(term: int) -> str:
    return f"term{term}output"
