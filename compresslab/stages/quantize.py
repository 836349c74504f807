"""quantize: weights and activations become 8-bit integers, by calibration alone or by training with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from compresslab.candidate import Candidate, TorchModel
from compresslab.distillation import Recipe, learn
from compresslab.quantization import (
    DynamicSettings,
    NeuralCompressorSettings,
    OnnxRuntimeSettings,
    QuantizerSettings,
    calibrate,
    convert,
    prepare,
    require_neural_compressor,
    require_products,
)
from compresslab.stages.backends import by_backend

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
    backend: Literal["own", "onnxruntime", "neural_compressor", "dynamic"] = "own"
    """`own`: our quantizers, in torch, the only ones that can train; `onnxruntime`: its static one, on the exported
    graph; `neural_compressor`: Intel's; `dynamic`: ONNX Runtime's for matrix products, which calibrates nothing.
    `{tune: [own, onnxruntime, dynamic]}` tries several: the fastest within the budget stays."""
    onnxruntime: OnnxRuntimeSettings = OnnxRuntimeSettings()
    """Settings of `backend: onnxruntime`, which reads no others but `samples`."""
    neural_compressor: NeuralCompressorSettings = NeuralCompressorSettings()
    """Settings of `backend: neural_compressor`, which reads no others but `samples`."""
    dynamic: DynamicSettings = DynamicSettings()
    """Settings of `backend: dynamic`, which reads no others."""
    samples: int = Field(512, ge=1)
    """Calibration samples, the first of the calibration split; all of it where it has fewer."""
    qat: Recipe = Recipe(epochs=2, learning_rate=0.01, precision="fp32")
    """The training of `qat` and `auto`, with the teacher where there is one."""

    @model_validator(mode="after")
    def _only_own_trains(self) -> Self:
        if self.mode != "ptq" and self.backend != "own":
            raise ValueError(
                f"`mode: {self.mode}` trains with the rounding in place, which only `backend: own` can; leave `mode` "
                f"out to quantize with `{self.backend}`"
            )
        return self

    @property
    def libraries(self) -> tuple[str, ...]:
        """What it uses beside the libraries that every stage does; results are of one version of them."""
        return ("neural-compressor", "torchao") if self.backend == "neural_compressor" else ()

    def require_backend(self, module: nn.Module, example: Tensor) -> None:
        """Refuses, before anything is trained, what the backend will not do.

        Raises:
            ModelError: The backend is not installed, or not for such a network.
        """
        if self.backend == "neural_compressor":
            require_neural_compressor()
        elif self.backend == "dynamic":
            require_products(module, example)

    def apply(self, candidate: Candidate, context: Context) -> tuple[Candidate, ...]:
        """The INT8 model; with `auto` every attempt, the last one being the one to prefer.

        Raises:
            ModelError: The network cannot be traced, or has nothing that can be quantized.
            DataError: The calibration samples are not finite, or all alike.
        """
        if self.backend != "own":
            return (self._by_backend(candidate, context),)
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

    def _by_backend(self, candidate: Candidate, context: Context) -> Candidate:
        model, found = by_backend(self, candidate.network, list(self._batches(context)), context)
        # What is quantized as it comes calibrates nothing.
        samples = {} if self.backend == "dynamic" else {"samples": self._count(context)}
        return candidate.then(model, context.step(self, {"mode": "ptq", **samples, **found}))
