"""prune: whole channels are removed, and the network recovers with the teacher's help."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import nn

from compresslab.candidate import Candidate, TorchModel
from compresslab.distillation import Recipe, learn
from compresslab.pruning import Importance, Scope, prune_channels
from compresslab.settings import Settings

if TYPE_CHECKING:
    from compresslab.stage import Context

_GRADIENT_BATCH = 250


class Prune(Settings):
    """Removes about `ratio` of the channels, the least important first, and trains what is left."""

    kind: ClassVar[str] = "prune"
    version: ClassVar[int] = 1

    ratio: float = Field(gt=0, lt=1)
    """Share of the channels to remove. Parameters fall faster, about as (1 - ratio)^2."""
    importance: Importance = "taylor"
    """`taylor` asks how the loss would change, on the calibration split; `magnitude` how large the weights are."""
    scope: Scope = "global"
    """`global`: the channels of all layers compete; `local`: every layer loses the same share."""
    round_to: int = Field(8, ge=1)
    """Widths become multiples of this: the SIMD width of what will run the model, or it gets slower."""
    recover: Recipe | None = Recipe(epochs=2, learning_rate=0.02)
    """Training after the cut, with the teacher where there is one. Accuracy before it says nothing."""

    def apply(self, candidate: Candidate, context: Context) -> tuple[Candidate, ...]:
        """The network with fewer channels, recovered.

        Raises:
            ModelError: The network cannot be traced, nothing can be removed, or its output would change shape.
        """
        start = candidate.network
        task = context.task
        example = torch.from_numpy(task.batch("calibration", np.arange(2), None))

        def accumulate(module: nn.Module) -> None:
            split = task.splits["calibration"]
            assert split.targets is not None, "the splits of a task are labelled"
            module.zero_grad(set_to_none=True)
            for first in range(0, len(split.inputs), _GRADIENT_BATCH):
                rows = np.arange(first, min(first + _GRADIENT_BATCH, len(split.inputs)))
                targets = torch.from_numpy(split.targets[rows])
                loss = task.loss(module(torch.from_numpy(task.batch("calibration", rows, None))), targets)
                (loss * len(rows) / len(split.inputs)).backward()  # type: ignore[no-untyped-call]

        module, decisions = prune_channels(
            start.module, example,
            ratio=self.ratio, importance=self.importance, scope=self.scope, round_to=self.round_to,
            accumulate=accumulate if self.importance == "taylor" else None,
        )  # fmt: skip
        if self.recover is not None:
            history = learn(module, self.recover, context, "recover")
            decisions = {**decisions, "loss": [round(epoch.loss, 6) for epoch in history]}
        return (candidate.then(TorchModel(module, start.builder), context.step(self, decisions)),)
