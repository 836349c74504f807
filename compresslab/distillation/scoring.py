"""A network's quality on validation while it is still a torch module, for what chooses during training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from compresslab.data.alike import blocks_alike, in_order
from compresslab.measure.metrics import metric_of

if TYPE_CHECKING:
    import numpy.typing as npt

    from compresslab.tasks import Task

_BATCH = 500


def validation_score(module: nn.Module, task: Task) -> float:
    """The task's metric on the validation split, computed on the CPU in float32; the module is left as it was."""
    split = task.splits["validation"]
    assert split.targets is not None, "validation is labelled"
    outputs = predicted(module, task, "validation", np.arange(len(split.targets)))
    return float(metric_of(task.metric).value(outputs, split.targets))


def predicted(
    module: nn.Module, task: Task, split: str, rows: npt.NDArray[np.int64], seed: int | None = None, mixup: float = 0.0
) -> npt.NDArray[np.float32]:
    """The network's outputs for some rows of a split, in eval mode [b, outputs]."""
    was_training = module.training
    module.eval()
    lengths = task.lengths(split)
    blocks = blocks_alike(None if lengths is None else lengths[rows], len(rows), _BATCH)
    parts = []
    with torch.inference_mode():
        for block in blocks:
            inputs = torch.from_numpy(task.batch(split, rows[block], seed, mixup))
            parts.append(module(inputs).float().numpy())
    module.train(was_training)
    return in_order(parts, blocks)
