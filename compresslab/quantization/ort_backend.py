"""ONNX Runtime's own static quantizer, with the settings that are fast: what a user would do without us."""

from __future__ import annotations

import logging
import tempfile
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnxruntime import quantization as ort
from onnxruntime.quantization.shape_inference import quant_pre_process
from pydantic import field_validator

from compresslab.candidate import OnnxModel
from compresslab.errors import DataError, ModelError
from compresslab.export.reading import read_model
from compresslab.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# ONNX Runtime's levels; warnings are its default.
_WARNING, _ERROR = 2, 3
_METHODS = {
    "minmax": ort.CalibrationMethod.MinMax,
    "percentile": ort.CalibrationMethod.Percentile,
}


class OnnxRuntimeSettings(Settings):
    """QDQ, uint8 activations, int8 weights per channel. What is slow on the CPU is refused, with what it costs."""

    calibration: Literal["minmax", "percentile"] = "minmax"
    """How the range of an activation is found. Its `entropy`, with as many bins as levels, finds what `minmax` does."""
    activations: Literal["uint8", "int8"] = "uint8"
    """int8 is refused: three times slower."""
    weights: Literal["int8", "uint8"] = "int8"
    """uint8 is refused: two and a half times slower."""
    per_channel: bool = True
    """One scale for each output channel of a weight, instead of one for all."""

    @field_validator("activations")
    @classmethod
    def _fast_activations(cls, value: str) -> str:
        if value == "int8":
            raise ValueError(
                "int8 activations have no fast kernel on x86: measured 12.3 ms against 4.4 ms with uint8; use `uint8`"
            )
        return value

    @field_validator("weights")
    @classmethod
    def _fast_weights(cls, value: str) -> str:
        if value == "uint8":
            raise ValueError(
                "uint8 weights have no fast kernel on x86: measured 10.8 ms against 4.4 ms with int8; use `int8`"
            )
        return value


_DEFAULT = OnnxRuntimeSettings()


def quantize_static(
    graph: Path,
    destination: Path,
    batches: Iterable[npt.NDArray[np.float32]],
    settings: OnnxRuntimeSettings = _DEFAULT,
) -> OnnxModel:
    """Quantizes an exported float graph with `onnxruntime.quantization.quantize_static`.

    Args:
        graph: A float ONNX file with one input; left unchanged.
        destination: The file to write.
        batches: Real inputs, float32 [n, ...]; no labels.
        settings: How ranges are found.

    Raises:
        ModelError: The graph is quantized already.
        ArtifactError: The file is missing or not ONNX.
        DataError: No batch, or a NaN or infinite value.
    """
    model = _load_float(graph)
    reader = _Batches(model.graph.input[0].name, batches)
    with tempfile.TemporaryDirectory() as folder, _quiet():
        prepared = Path(folder, "prepared.onnx")
        # Symbolic shape inference fails on open dimensions beside the batch; ONNX's own is enough here.
        quant_pre_process(str(graph), str(prepared), skip_symbolic_shape=True)
        ort.quantize_static(
            str(prepared),
            str(destination),
            reader,
            quant_format=ort.QuantFormat.QDQ,
            per_channel=settings.per_channel,
            activation_type=ort.QuantType.QUInt8,
            weight_type=ort.QuantType.QInt8,
            calibrate_method=_METHODS[settings.calibration],
        )
    return OnnxModel(destination)


class _Batches(ort.CalibrationDataReader):  # type: ignore[misc]
    """Batches in the form that ONNX Runtime's calibrators ask for. Its base class is theirs."""

    def __init__(self, name: str, batches: Iterable[npt.NDArray[np.float32]]) -> None:
        self._name = name
        self._batches = enumerate(batches)
        self._count = 0

    def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
        """The next batch, or None after the last."""
        index, batch = next(self._batches, (None, None))
        if batch is None:
            if self._count == 0:
                raise DataError("there are no calibration batches; give at least one, better a few hundred examples")
            return None
        if not np.isfinite(batch).all():
            raise DataError(f"calibration batch {index} holds NaN or infinity; clean the data")
        self._count += 1
        return {self._name: batch}


def _load_float(path: Path) -> onnx.ModelProto:
    model = read_model(path)
    found = sorted(
        {node.op_type for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")}
    )
    if found:
        raise ModelError(f"{path}: the graph is quantized already (it has {', '.join(found)}); give the float one")
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """ONNX Runtime's quantizer logs advice to the root logger, warns in C++, and prints its progress."""
    logger = logging.getLogger()
    before = logger.level
    logger.setLevel(logging.ERROR)
    onnxruntime.set_default_logger_severity(_ERROR)
    try:
        with redirect_stdout(StringIO()):
            yield
    finally:
        onnxruntime.set_default_logger_severity(_WARNING)
        logger.setLevel(before)
