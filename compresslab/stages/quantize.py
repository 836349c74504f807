"""quantize: weights and activations become 8-bit integers, by calibration alone or by training with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from compresslab.candidate import Candidate, OnnxModel, TorchModel
from compresslab.distillation import Recipe, learn
from compresslab.export import export
from compresslab.quantization import QuantizerSettings, calibrate, convert, prepare, quantize_static
from compresslab.world import on_main

if TYPE_CHECKING:
    from compresslab.stage import Context

_BATCH = 128


class Quantize(QuantizerSettings):
    """Turns the incoming network into INT8. Nothing may follow it but the measurement."""

    kind: ClassVar[str] = "quantize"
    version: ClassVar[int] = 1

    mode: Literal["ptq", "qat", "auto"] = "ptq"
    """`ptq` calibrates; `qat` calibrates and then trains with the rounding in place; `auto` goes on from the first to
    the second when the budget is missed, and keeps both."""
    backend: Literal["own", "onnxruntime"] = "own"
    """`own`: our quantizers, in torch; `onnxruntime`: its static one, on the exported graph, which cannot train."""
    samples: int = Field(512, ge=1)
    """Calibration samples, the first of the calibration split; all of it where it has fewer."""
    qat: Recipe = Recipe(epochs=2, learning_rate=0.01, precision="fp32")
    """The training of `qat` and `auto`, with the teacher where there is one."""

    def apply(self, candidate: Candidate, context: Context) -> tuple[Candidate, ...]:
        """The INT8 model; with `auto` every attempt, the last one being the one to prefer.

        Raises:
            ModelError: The network cannot be traced, or has nothing that can be quantized.
            DataError: The calibration samples are not finite, or all alike.
        """
        if self.backend == "onnxruntime":
            return (self._by_onnxruntime(candidate, context),)
        prepared = self._calibrated(candidate, context)
        if self.mode == "qat":
            return (self._trained(prepared, candidate, context, attempt=0),)
        decisions = {"mode": "ptq", "samples": self._count(context)}
        calibrated = candidate.then(TorchModel(convert(prepared), None), context.step(self, decisions))
        if self.mode == "ptq":
            return (calibrated,)
        verdict = context.assess(calibrated).budget
        if verdict.status == "pass":
            context.progress.note("auto: calibration alone is within budget")
            return (calibrated,)
        context.progress.note(
            f"auto: after calibration the budget is {'missed' if verdict.status == 'fail' else 'not met for certain'} "
            f"({'; '.join(verdict.violations)}); going on to training with the rounding in place"
        )
        return (calibrated, self._trained(prepared, candidate, context, attempt=1))

    def _count(self, context: Context) -> int:
        return min(self.samples, len(context.task.splits["calibration"].inputs))

    def _batches(self, context: Context) -> Iterator[np.ndarray]:
        count = self._count(context)
        for start in range(0, count, _BATCH):
            yield context.task.batch("calibration", np.arange(start, min(start + _BATCH, count)), None)

    def _calibrated(self, candidate: Candidate, context: Context) -> nn.Module:
        quantizer = QuantizerSettings(**self.model_dump(include=set(QuantizerSettings.model_fields)))
        example: Tensor = torch.from_numpy(next(self._batches(context)))
        prepared = prepare(candidate.network.module, example, quantizer)
        calibrate(prepared, (torch.from_numpy(batch) for batch in self._batches(context)))
        return prepared

    def _trained(self, prepared: nn.Module, candidate: Candidate, context: Context, attempt: int) -> Candidate:
        history = learn(prepared, self.qat, context, "qat")
        decisions: dict[str, Any] = {
            "mode": "qat",
            "samples": self._count(context),
            "loss": [round(epoch.loss, 6) for epoch in history],
        }
        return candidate.then(TorchModel(convert(prepared), None), context.step(self, decisions, attempt))

    def _by_onnxruntime(self, candidate: Candidate, context: Context) -> Candidate:
        task = context.task
        folder = context.scratch / "float"
        folder.mkdir(parents=True, exist_ok=True)
        batches = list(self._batches(context))
        path = context.scratch / "onnxruntime.onnx"

        def make() -> None:
            floating = export(
                candidate.network, folder,
                preprocessing=task.preprocessing, labels=task.labels, inputs=batches[0], provenance={},
            )  # fmt: skip
            quantize_static(floating.graphs["model"], path, batches)

        on_main(make)
        decisions = {"mode": "ptq", "samples": self._count(context)}
        return candidate.then(OnnxModel(path), context.step(self, decisions))
