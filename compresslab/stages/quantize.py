"""quantize: weights and activations become 8-bit integers, by calibration alone or by training with it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
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
    require_graph_of_products,
    require_neural_compressor,
    require_products,
    require_static,
)
from compresslab.stages.backends import by_backend
from compresslab.stages.calibration_check import calibration_told
from compresslab.stages.rescue import attempts

if TYPE_CHECKING:
    from pathlib import Path

    from compresslab.stage import Context

_BATCH = 128


class Quantize(QuantizerSettings):
    """Turns the incoming network into INT8. Nothing may follow it but the measurement."""

    kind: ClassVar[str] = "quantize"
    version: ClassVar[int] = 1

    mode: Literal["ptq", "qat", "auto"] = "ptq"
    """`ptq` calibrates; `qat` calibrates and then trains with the rounding in place; `auto` calibrates, keeps ever more
    of the sensitive operators in float while the budget's limits on quality are missed, then trains; it stops at the
    first that is within budget, and keeps all."""
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
    calibration_seeds: int = Field(1, ge=1)
    """On how many random parts of the calibration split to calibrate besides, to tell how much the draw matters:
    quality on validation, by fake quantization. 1 for none."""
    sensitivity_samples: int = Field(128, ge=2)
    """Calibration samples on which `auto` finds what suffers from integers: it takes a pass for each operator."""
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

    def require_graph(self, graph: Path) -> None:
        """Refuses, before anything is measured, an ONNX file that the backend will not quantize.

        Raises:
            ModelError: It is quantized already, or not for this backend.
            ArtifactError: It is missing, or no ONNX.
        """
        if self.backend == "dynamic":
            require_graph_of_products(graph)
        else:
            require_static(graph)

    def apply(self, candidate: Candidate, context: Context) -> tuple[Candidate, ...]:
        """The INT8 model; with `auto` every attempt.

        Raises:
            ModelError: The network cannot be traced, or has nothing that can be quantized.
            DataError: The calibration samples are not finite, or all alike.
        """
        if isinstance(candidate.model, TorchModel):  # a graph reads as the task says
            context = context.reading(candidate.model)
        if self.backend != "own":
            return (self._by_backend(candidate, context),)
        if self.mode == "auto":
            return attempts(self, candidate, context)
        prepared = self.calibrated(candidate, context)
        if self.mode == "qat":
            return (self.trained(prepared, candidate, context),)
        return (self.converted(prepared, candidate, context, {"mode": "ptq"}),)

    def count(self, context: Context) -> int:
        """How many calibration samples are used."""
        return min(self.samples, len(context.task.splits["calibration"].inputs))

    def _batches(self, context: Context) -> Iterator[np.ndarray]:
        count = self.count(context)
        for start in range(0, count, _BATCH):
            yield context.task.batch("calibration", np.arange(start, min(start + _BATCH, count)), None)

    def quantizer(self, keep_float: Sequence[str] = ()) -> QuantizerSettings:
        """The settings of the quantizers, with these operators in float beside those that always are."""
        plain = self.model_dump(include=set(QuantizerSettings.model_fields))
        return QuantizerSettings(**plain | {"keep_float": tuple(dict.fromkeys([*self.keep_float, *keep_float]))})

    def calibrated(self, candidate: Candidate, context: Context, keep_float: Sequence[str] = ()) -> nn.Module:
        """The network with quantizers whose ranges are set."""
        example: Tensor = torch.from_numpy(next(self._batches(context)))
        prepared = prepare(candidate.network.module, example, self.quantizer(keep_float))
        calibrate(prepared, (torch.from_numpy(batch) for batch in self._batches(context)))
        return prepared

    def converted(
        self,
        prepared: nn.Module,
        candidate: Candidate,
        context: Context,
        decisions: Mapping[str, Any],
        attempt: int = 0,
    ) -> Candidate:
        """The candidate with integer weights, whose ONNX file will be held against the fake-quantized network."""
        told = {**decisions, "samples": self.count(context)}
        if attempt == 0:  # later ones are calibrated on the same
            told["calibration"] = calibration_told(self, candidate.network.module, context)
        # A copy: `auto` may train the network further before this candidate is exported.
        model = TorchModel(
            convert(prepared), None, simulated=copy.deepcopy(prepared), preprocessing=candidate.network.preprocessing
        )
        return candidate.then(model, context.step(self, told, attempt))

    def trained(
        self,
        prepared: nn.Module,
        candidate: Candidate,
        context: Context,
        decisions: Mapping[str, Any] | None = None,
        attempt: int = 0,
    ) -> Candidate:
        """The same after training with the rounding in place."""
        history = learn(prepared, self.qat, context, "qat")
        told = {"mode": "qat", **(decisions or {}), "loss": [round(epoch.loss, 6) for epoch in history]}
        return self.converted(prepared, candidate, context, told, attempt)

    def _by_backend(self, candidate: Candidate, context: Context) -> Candidate:
        model, found = by_backend(self, candidate.model, list(self._batches(context)), context)
        decisions: dict[str, Any] = {"mode": "ptq"}
        if self.backend != "dynamic":  # what is quantized as it comes calibrates nothing
            decisions["samples"] = self.count(context)
            module = candidate.model.module if isinstance(candidate.model, TorchModel) else None
            decisions["calibration"] = calibration_told(self, module, context)
        return candidate.then(model, context.step(self, {**decisions, **found}))
