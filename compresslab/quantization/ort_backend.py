"""ONNX Runtime's own static quantizer, with the settings that are fast: what a user would do without us."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnxruntime import quantization as ort
from onnxruntime.quantization.shape_inference import quant_pre_process
from pydantic import Field, field_validator

from compresslab.candidate import OnnxModel
from compresslab.errors import DataError, ModelError
from compresslab.export.reading import read_model
from compresslab.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Feed: TypeAlias = "npt.NDArray[Any] | Mapping[str, npt.NDArray[Any]]"
"""A batch of inputs: of a graph with one input the array, else the arrays by input name."""

# ONNX Runtime's levels; warnings are its default.
_WARNING, _ERROR = 2, 3
_OPSET = 13
_LAYERS = ("MatMul", "Gemm", "Conv")
_QUANTIZED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "ConvInteger")
_METHODS = {
    "minmax": ort.CalibrationMethod.MinMax,
    "percentile": ort.CalibrationMethod.Percentile,
}


class OnnxRuntimeSettings(Settings):
    """QDQ, uint8 activations, int8 weights per channel. What is slow on the CPU is refused, with what it costs."""

    calibration: Literal["minmax", "percentile"] = "minmax"
    """How the range of an activation is found. Its `entropy`, with as many bins as levels, finds what `minmax` does."""
    percentile: float = Field(99.999, gt=50, le=100)
    """Share of the values, in per cent, that stays inside the range; only `percentile` reads it."""
    operators: Literal["auto", "layers", "all"] = "auto"
    """`layers`: MatMul, Gemm and Conv alone; `all`: whatever has a quantized form; `auto`: `layers` for a transformer
    (measured on a ViT: 25 dB of signal to noise against 11 with `all`), else `all`."""
    attention: Literal["float", "int8"] = "float"
    """The products of two computed matrices, which attention is made of; in integers they were no faster."""
    embeddings: bool = True
    """Store embedding tables in eight bits too, one scale a table."""
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
    batches: Iterable[Feed],
    settings: OnnxRuntimeSettings = _DEFAULT,
) -> OnnxModel:
    """Quantizes an exported float graph with `onnxruntime.quantization.quantize_static`.

    Args:
        graph: A float ONNX file; left unchanged.
        destination: The file to write.
        batches: Real inputs; no labels. Arrays [n, ...] where the graph has one input, else arrays by input name.
        settings: How ranges are found.

    Raises:
        ModelError: As `require_static`.
        ArtifactError: The file is missing or not ONNX.
        DataError: No batch, or a NaN or infinite value.
    """
    model = require_static(graph)
    weights = {tensor.name for tensor in model.graph.initializer}  # which old files list among the inputs
    reader = _Batches(next(value.name for value in model.graph.input if value.name not in weights), batches)
    operators = _operators(settings, model)
    with preprocessed(graph) as prepared, quiet():
        ort.quantize_static(
            str(prepared),
            str(destination),
            reader,
            quant_format=ort.QuantFormat.QDQ,
            op_types_to_quantize=operators,
            nodes_to_exclude=_attention(prepared) if settings.attention == "float" else None,
            per_channel=settings.per_channel,
            activation_type=ort.QuantType.QUInt8,
            weight_type=ort.QuantType.QInt8,
            calibrate_method=_METHODS[settings.calibration],
            extra_options=_extra(settings, layers_only=operators is not None),
        )
    return OnnxModel(destination)


def require_static(graph: Path) -> onnx.ModelProto:
    """The graph, which `quantize_static` can quantize.

    Raises:
        ModelError: It is quantized already, or of an opset before scales of single channels.
        ArtifactError: The file is missing or not ONNX.
    """
    model = load_float(graph)
    opset = next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), 0)
    if opset < _OPSET:
        raise ModelError(
            f"{graph}: its opset is {opset}, and one scale a channel needs {_OPSET}; export it again, or convert it by "
            f"`onnx.version_converter.convert_version(model, {_OPSET})`"
        )
    return model


def _operators(settings: OnnxRuntimeSettings, model: onnx.ModelProto) -> list[str] | None:
    """The operators to quantize; None means all that can be."""
    if settings.operators == "layers" or (settings.operators == "auto" and is_transformer(model)):
        return [*_LAYERS, *(["Gather"] if settings.embeddings else [])]
    return None


def _extra(settings: OnnxRuntimeSettings, *, layers_only: bool) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if settings.calibration == "percentile":
        options["CalibPercentile"] = settings.percentile
    if layers_only:
        # What follows reads floats, which the kernel writes itself: 17 dB instead of 9 on MiniLM, and no slower.
        options["OpTypesToExcludeOutputQuantization"] = ["MatMul", "Gemm"]
    return options


def _attention(path: Path) -> list[str]:
    """Names of the products of two computed matrices; where they have none they get one, in the file."""
    model = onnx.load(str(path))
    constants = {tensor.name for tensor in model.graph.initializer}
    found = [node for node in model.graph.node if node.op_type == "MatMul" and constants.isdisjoint(node.input)]
    for node in found:
        node.name = node.name or node.output[0]
    onnx.save(model, str(path))
    return [node.name for node in found]


def is_transformer(model: onnx.ModelProto) -> bool:
    """Whether the graph has attention or layer normalization, which lose much when they are quantized."""
    softmaxes = {node.output[0] for node in model.graph.node if node.op_type == "Softmax"}
    return any(
        node.op_type == "LayerNormalization" or (node.op_type == "MatMul" and not softmaxes.isdisjoint(node.input))
        for node in model.graph.node
    )


class _Batches(ort.CalibrationDataReader):  # type: ignore[misc]
    """Batches in the form that ONNX Runtime's calibrators ask for. Its base class is theirs."""

    def __init__(self, name: str, batches: Iterable[Feed]) -> None:
        self._name = name
        self._batches = enumerate(batches)
        self._count = 0

    def get_next(self) -> dict[str, npt.NDArray[Any]] | None:
        """The next batch, or None after the last."""
        index, batch = next(self._batches, (None, None))
        if batch is None:
            if self._count == 0:
                raise DataError("there are no calibration batches; give at least one, better a few hundred examples")
            return None
        feed = dict(batch) if isinstance(batch, Mapping) else {self._name: batch}
        if not all(np.isfinite(array).all() for array in feed.values()):
            raise DataError(f"calibration batch {index} holds NaN or infinity; clean the data")
        self._count += 1
        return feed


def load_float(path: Path) -> onnx.ModelProto:
    """A graph that is still to be quantized.

    Raises:
        ModelError: It is quantized already.
        ArtifactError: The file is missing or not ONNX.
    """
    model = read_model(path)
    found = sorted({node.op_type for node in model.graph.node if node.op_type in _QUANTIZED})
    if found:
        raise ModelError(f"{path}: the graph is quantized already (it has {', '.join(found)}); give the float one")
    return model


@contextmanager
def preprocessed(graph: Path) -> Iterator[Path]:
    """A copy of the graph with normalizations folded and shapes inferred, as ONNX Runtime's quantizers want it."""
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder, "prepared.onnx")
        with quiet():
            # Symbolic shape inference fails on open dimensions beside the batch; ONNX's own is enough here.
            quant_pre_process(str(graph), str(prepared), skip_symbolic_shape=True)
        yield prepared


@contextmanager
def quiet() -> Iterator[None]:
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
