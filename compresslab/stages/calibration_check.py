"""What a quantizer's calibration rests on, measured where that is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from compresslab.export.parity import torch_outputs
from compresslab.measure.metrics import metric_of
from compresslab.quantization import calibrate, prepare
from compresslab.quantization.calibration_report import Coverage, spread, subset, subset_size

if TYPE_CHECKING:
    from torch import nn

    from compresslab.stage import Context
    from compresslab.stages.quantize import Quantize

_BATCH = 128


def calibration_told(stage: Quantize, module: nn.Module | None, context: Context) -> dict[str, Any]:
    """For a step's decisions: the samples and classes covered, and the spread over random subsets; notes are told.

    Args:
        stage: Whose calibration it is.
        module: The float network, for the subsets; None of a graph, which has none.
        context: Of the stage.
    """
    task, split = context.task, context.task.splits["calibration"]
    found = Coverage.of(split.targets, task.labels, stage.count(context), len(split.inputs))
    for note in found.notes():
        context.progress.note(note)
    told = found.plain()
    if stage.calibration_seeds > 1 and module is not None:
        told["over_subsets"] = _over_subsets(stage, module, context)
    return told


def _over_subsets(stage: Quantize, module: nn.Module, context: Context) -> dict[str, Any]:
    """The quality on validation of the fake-quantized network, calibrated on one random subset after the other."""
    task, given = context.task, len(context.task.splits["calibration"].inputs)
    size = subset_size(stage.count(context), given)
    targets = task.splits["validation"].targets
    assert targets is not None, "the validation split is labelled"
    qualities = []
    for number in range(stage.calibration_seeds):
        rows = subset(given, size, context.seed, number)
        parts = [rows[start : start + _BATCH] for start in range(0, size, _BATCH)]
        batches = [torch.from_numpy(task.batch("calibration", part, None)) for part in parts]
        prepared = prepare(module, batches[0], stage.quantizer())
        calibrate(prepared, batches)
        held_out = [np.arange(start, min(start + _BATCH, len(targets))) for start in range(0, len(targets), _BATCH)]
        outputs = [torch_outputs(prepared, task.batch("validation", part, None)) for part in held_out]
        qualities.append(metric_of(task.metric).value(np.concatenate(outputs), targets))
    found = spread(qualities, size)
    context.progress.note(
        f"over {len(qualities)} random calibration subsets of {size}, {task.metric} on validation is "
        f"{found['mean']:.4f} with a deviation of {found['std']:.4f}"
    )
    return found
