"""The quantizers of others, as `quantize` uses them: each makes an ONNX graph, so nothing can be trained after it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch

from compresslab.candidate import OnnxModel
from compresslab.distillation.scoring import validation_score
from compresslab.export import export
from compresslab.export.exporting import output_name
from compresslab.quantization import quantize_dynamic, quantize_pt2e, quantize_static
from compresslab.world import on_main

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from compresslab.candidate import TorchModel
    from compresslab.quantization import NeuralCompressorSettings
    from compresslab.stage import Context
    from compresslab.stages.quantize import Quantize
    from compresslab.tasks import Task


def by_backend(
    stage: Quantize, network: TorchModel, batches: Sequence[npt.NDArray[np.float32]], context: Context
) -> tuple[OnnxModel, dict[str, Any]]:
    """The INT8 graph that the stage's backend makes, in `context.scratch`, and what it decided.

    Raises:
        ModelError: The backend is not installed, or not for such a network.
        DataError: The calibration samples are not finite.
    """
    path = context.scratch / f"{stage.backend}.onnx"
    found: dict[str, Any] = {}

    def make() -> None:
        context.scratch.mkdir(parents=True, exist_ok=True)
        if stage.backend == "neural_compressor":
            found.update(_by_neural_compressor(stage.neural_compressor, network, batches, context, path))
        elif stage.backend == "dynamic":
            quantize_dynamic(_float_graph(network, batches, context), path, stage.dynamic)
        else:
            quantize_static(_float_graph(network, batches, context), path, batches, stage.onnxruntime)

    on_main(make)
    return OnnxModel(path, network.preprocessing), found


def _float_graph(network: TorchModel, batches: Sequence[npt.NDArray[np.float32]], context: Context) -> Path:
    task = context.task
    made = export(
        network, context.scratch / "float",
        preprocessing=task.preprocessing, labels=task.labels, target=task.target,
        embedding=task.any_width, inputs=batches[0], provenance={},
    )  # fmt: skip
    return made.graphs["model"]


def _by_neural_compressor(
    settings: NeuralCompressorSettings,
    network: TorchModel,
    batches: Sequence[npt.NDArray[np.float32]],
    context: Context,
    path: Path,
) -> dict[str, Any]:
    task: Task = context.task
    tensors = [torch.from_numpy(batch) for batch in batches]
    made = quantize_pt2e(
        network.module, path, tensors, output_name(task.labels, task.any_width), settings,
        evaluate=lambda module: validation_score(module, task),
    )  # fmt: skip
    if made.tuning is None:
        return {}
    if not made.tuning.met:
        context.progress.note(
            "neural_compressor: none of its settings loses as little as `tolerable_loss` allows; the best reaches "
            f"{made.tuning.reached:.4g} on validation, where {made.tuning.target:.4g} is asked for"
        )
    return {"tuning": {**asdict(made.tuning), "met": made.tuning.met}}
