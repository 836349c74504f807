"""ONNX graphs of one layer each, as the export of a network would have it, to be timed."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from compresslab.export.to_onnx import OPSET
from compresslab.pruning.geometry import DEPTHWISE

if TYPE_CHECKING:
    from compresslab.pruning.geometry import Sized

Precision = Literal["fp32", "int8"]
"""What will ship: floats, or uint8 activations with int8 weights per channel."""

_IR_VERSION = 10
_PACKED = 4
_TINY = (1, 4, 1, 1)
_MOST_INPUTS = 12
_SCALE, _WEIGHT_SCALE, _MIDDLE = 0.02, 0.005, 128


def one_layer(sized: Sized, precision: Precision, batch: int) -> ModelProto:
    """The layer with a ReLU after it, between Q/DQ pairs where it is int8; from `x` to `y`, of fixed shape.

    A transposed convolution has no integer kernel, and is float in either case, as in the export.
    """
    graph = _Graph()
    quantized = precision == "int8" and sized.geometry.kind != "transposed"
    source = graph.pair("x", "in") if quantized else "x"
    if quantized and sized.geometry.kind == "conv" and sized.geometry.groups == 1 and sized.inputs < _PACKED:
        # So few channels are the network's inputs, which the export pads (`export.rewrite.pad_input_channels`).
        sized = replace(sized, inputs=_PACKED)
    result = _layer(graph, sized, source, _weight(sized), quantized)
    if sized.geometry.kind != "linear":
        result = graph.node("Relu", [result], "relu")
    if quantized:
        result = graph.pair(result, "out")
    copies = batch * sized.geometry.copies
    if sized.geometry.kind == "linear":
        shape = (copies, *sized.geometry.size, sized.inputs)
    else:
        shape = (copies, sized.inputs, *sized.geometry.size)
    return graph.model(shape, result)


def ruler() -> ModelProto:
    """Kernels that do next to nothing, with 1 to 12 inputs."""
    graph = _Graph()
    joined = [graph.node("Concat", ["x"] * inputs, f"joined_{inputs}", axis=0) for inputs in range(1, _MOST_INPUTS + 1)]
    return graph.model(_TINY, *joined)


def nothing() -> ModelProto:
    """One node that passes its input on as it is."""
    graph = _Graph()
    return graph.model(_TINY, graph.node("Flatten", ["x"], "flatten"))


def _layer(graph: _Graph, sized: Sized, source: str, weight: npt.NDArray[np.float32], quantized: bool) -> str:
    geometry = sized.geometry
    bias = np.zeros(sized.outputs, np.float32)
    if geometry.kind == "linear" and geometry.size:
        # With tokens it is a product with a matrix, and an addition that other operators may take in.
        matrix = graph.node("Transpose", [graph.dequantized(weight)], "turned", perm=[1, 0]) if quantized else ""
        matrix = matrix or graph.constant(np.ascontiguousarray(weight.T), "weight")
        product = graph.node("MatMul", [source, matrix], "layer")
        return graph.node("Add", [product, graph.constant(bias, "bias")], "shifted")
    inputs = [source, graph.dequantized(weight) if quantized else graph.constant(weight, "weight")]
    inputs.append(graph.constant(bias, "bias"))
    if geometry.kind == "linear":
        return graph.node("Gemm", inputs, "layer", transB=1)
    return graph.node(
        "ConvTranspose" if geometry.kind == "transposed" else "Conv", inputs, "layer",
        kernel_shape=geometry.kernel, strides=geometry.stride, pads=geometry.padding * 2,
        dilations=geometry.dilation, group=_groups(sized),
    )  # fmt: skip


def _groups(sized: Sized) -> int:
    return sized.outputs if sized.geometry.groups == DEPTHWISE else sized.geometry.groups


def _weight(sized: Sized) -> npt.NDArray[np.float32]:
    geometry = sized.geometry
    if geometry.kind == "linear":
        shape: tuple[int, ...] = (sized.outputs, sized.inputs)
    elif geometry.kind == "transposed":
        shape = (sized.inputs, sized.outputs // _groups(sized), *geometry.kernel)
    else:
        shape = (sized.outputs, sized.inputs // _groups(sized), *geometry.kernel)
    spread = 1 / math.sqrt(max(1, math.prod(shape[1:])))
    return np.random.default_rng(0).standard_normal(shape, np.float32) * np.float32(spread)


class _Graph:
    """Nodes and constants as they come."""

    def __init__(self) -> None:
        self._nodes: list[NodeProto] = []
        self._constants: list[TensorProto] = []

    def node(self, operator: str, inputs: list[str], name: str, **attributes: Any) -> str:
        self._nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def constant(self, values: npt.NDArray[Any], name: str) -> str:
        self._constants.append(numpy_helper.from_array(values, name))
        return name

    def pair(self, value: str, name: str) -> str:
        """Through uint8 and back."""
        scale = self.constant(np.array(_SCALE, np.float32), f"{name}_scale")
        zero = self.constant(np.array(_MIDDLE if name == "in" else 0, np.uint8), f"{name}_zero")
        stored = self.node("QuantizeLinear", [value, scale, zero], f"{name}_quantized")
        return self.node("DequantizeLinear", [stored, scale, zero], f"{name}_value")

    def dequantized(self, weight: npt.NDArray[np.float32]) -> str:
        """int8, with a scale for each output."""
        whole = np.clip(np.round(weight / _WEIGHT_SCALE), -127, 127).astype(np.int8)
        scales = np.full(len(weight), _WEIGHT_SCALE, np.float32)
        zeros = self.constant(np.zeros(len(weight), np.int8), "weight_zero")
        stored = [self.constant(whole, "weight_stored"), self.constant(scales, "weight_scale"), zeros]
        return self.node("DequantizeLinear", stored, "weight", axis=0)

    def model(self, shape: tuple[int, ...], *results: str) -> ModelProto:
        given = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
        made = [helper.make_tensor_value_info(result, TensorProto.FLOAT, None) for result in results]
        graph = helper.make_graph(self._nodes, "layer", [given], made, self._constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=_IR_VERSION)
