"""train: the network learns the task from its labels alone."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from compresslab.distillation import Recipe, learn, validation_score
from compresslab.training import FitSettings

if TYPE_CHECKING:
    from compresslab.candidate import Candidate
    from compresslab.stage import Context


class Train(FitSettings):
    """Trains the incoming network on the task's training split, a new augmented view each epoch."""

    kind: ClassVar[str] = "train"
    version: ClassVar[int] = 1

    def apply(self, candidate: Candidate, context: Context) -> tuple[Candidate, ...]:
        """The same network, trained."""
        start = candidate.network
        context = context.reading(start)
        module = copy.deepcopy(start.module)
        history = learn(module, self.recipe, context, self.kind)
        decisions = {"loss": [round(epoch.loss, 6) for epoch in history]}
        return (candidate.then(replace(start, module=module), context.step(self, decisions)),)

    def begin(self, candidate: Candidate, context: Context, epochs: int) -> float:
        """Trains the first `epochs` only, for the choice between settings; returns the quality on validation."""
        context = context.reading(candidate.network)
        module = copy.deepcopy(candidate.network.module)
        learn(module, self.recipe, context, self.kind, until=epochs)
        return validation_score(module, context.task)

    @property
    def recipe(self) -> Recipe:
        """How the network is trained: on the task's own loss alone."""
        return Recipe(**self.model_dump(), kd_weight=0.0, task_weight=1.0)
