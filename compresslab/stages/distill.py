"""distill: a student learns from the teacher's soft targets and from the labels."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, ClassVar

import torch

from compresslab.candidate import Candidate, TorchModel
from compresslab.distillation import Recipe, learn
from compresslab.errors import ModelError
from compresslab.models import ModelSpec

if TYPE_CHECKING:
    from compresslab.stage import Context


class Distill(Recipe):
    """Trains `student`, or the incoming network where none is given, with the teacher."""

    kind: ClassVar[str] = "distill"
    version: ClassVar[int] = 1

    student: ModelSpec | None = None
    """The network that learns; it starts anew. Null goes on with the incoming one."""

    def apply(self, candidate: Candidate, context: Context) -> tuple[Candidate, ...]:
        """The student, trained.

        Raises:
            ModelError: There is no teacher to learn from.
        """
        if context.teacher is None:
            raise ModelError("`distill` has no teacher; give `teacher`, or weights for `model`")
        start = self._student(context) if self.student is not None else candidate.network
        module = copy.deepcopy(start.module)
        recipe = Recipe(**self.model_dump(exclude={"student"}))
        history = learn(module, recipe, context, self.kind)
        decisions = {"loss": [round(epoch.loss, 6) for epoch in history]}
        return (candidate.then(TorchModel(module, start.builder), context.step(self, decisions)),)

    def _student(self, context: Context) -> TorchModel:
        assert self.student is not None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(context.seed)
            return self.student.build(context.task.signature)
