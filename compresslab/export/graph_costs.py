"""What an ONNX graph costs on paper: its parameters, and its multiply-adds for one example."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx
import onnx_ir as ir
from onnxscript.optimizer import fold_constants

from compresslab.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Collection

_LENGTH = 32
"""Tokens of an example where nobody says how many it has."""

_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")
PRODUCTS = ("Conv", "Gemm", "MatMul", "MatMulInteger")
"""Operators that multiply and add; the last of them are what a dynamic quantizer makes of the others."""


@dataclass(frozen=True)
class Costs:
    """`params`: weights and biases. `macs`: multiply-adds of convolutions and matrix products, for one example."""

    params: int
    macs: int


def graph_costs(model: onnx.ModelProto, operators: Collection[str] = PRODUCTS, length: int = _LENGTH) -> Costs:
    """Counts parameters and multiply-adds of the operators that the network has.

    Parameters are the elements of all stored tensors but for quantization scales and zero points, shapes and axes
    (int64), and single constants. A normalization folded into a layer has none of its own.

    Args:
        model: Left unchanged.
        operators: Whose multiply-adds are counted.
        length: Tokens of the example, of a graph that takes int64 [batch, sequence].

    Raises:
        ArtifactError: A shape cannot be inferred, because a dimension other than these is open.
    """
    inferred = onnx.ModelProto()
    inferred.CopyFrom(model)
    of_texts = False
    for value in inferred.graph.input:
        dims = value.type.tensor_type.shape.dim
        dims[0].dim_value = 1
        if value.type.tensor_type.elem_type == onnx.TensorProto.INT64 and len(dims) == 2 and not dims[1].dim_value:
            dims[1].dim_value, of_texts = length, True
    # What is noted for another batch would win over what is inferred for one example.
    del inferred.graph.value_info[:]
    for value in inferred.graph.output:
        value.type.tensor_type.ClearField("shape")
    if of_texts:
        inferred = _with_constant_shapes(inferred)
    graph = onnx.shape_inference.infer_shapes(inferred, data_prop=True).graph
    shapes = {
        value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in (*graph.input, *graph.value_info, *graph.output)
    } | {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    return Costs(_params(model.graph), sum(_macs(node, shapes) for node in graph.node if node.op_type in operators))


def _with_constant_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """What is computed of the length of a text, known now, as constants: shape inference alone does not get through."""
    opened = ir.from_proto(model)
    fold_constants(opened, onnx_shape_inference=True)
    folded: onnx.ModelProto = ir.to_proto(opened)
    return folded


def _params(graph: onnx.GraphProto) -> int:
    scales = {name for node in graph.node if node.op_type in _QUANTIZERS for name in node.input[1:]}
    # Of what is quantized as it comes: zero points, and what the scale of the values is multiplied by.
    scales |= {name for node in graph.node if node.op_type == "MatMulInteger" for name in node.input[2:]}
    dynamic = {name for node in graph.node if node.op_type == "DynamicQuantizeLinear" for name in node.output}
    products = [node for node in graph.node if node.op_type == "Mul" and not dynamic.isdisjoint(node.input)]
    scales |= {name for node in products for name in node.input}
    return sum(
        math.prod(tensor.dims)
        for tensor in graph.initializer
        if tensor.name not in scales and tensor.data_type != onnx.TensorProto.INT64 and tensor.dims
    )


def _macs(node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> int:
    left, right, result = (shapes.get(name, (0,)) for name in (*node.input[:2], node.output[0]))
    if 0 in (*left, *right, *result):
        raise ArtifactError(
            f"{node.op_type} {node.name or node.output[0]}: its shape cannot be inferred, so its multiply-adds cannot "
            "be counted; fix every dimension of the inputs but the batch"
        )
    if node.op_type == "Conv":
        return math.prod(result) * math.prod(right[1:])
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return math.prod(result) * left[0 if transposed else -1]
