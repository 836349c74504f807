"""What an ONNX graph costs on paper: its parameters, and its multiply-adds for one example."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx

from compresslab.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Collection

_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")
# The last of them are what a dynamic quantizer makes of the others.
_PRODUCTS = ("Conv", "Gemm", "MatMul", "MatMulInteger")


@dataclass(frozen=True)
class Costs:
    """`params`: weights and biases. `macs`: multiply-adds of convolutions and matrix products, for one example."""

    params: int
    macs: int


def graph_costs(model: onnx.ModelProto, operators: Collection[str] = _PRODUCTS) -> Costs:
    """Counts parameters and multiply-adds of the operators that the network has.

    Parameters are the elements of all stored tensors but for quantization scales and zero points, shapes and axes
    (int64), and single constants. A normalization folded into a layer has none of its own.

    Args:
        model: Left unchanged.
        operators: Whose multiply-adds are counted.

    Raises:
        ArtifactError: A shape cannot be inferred, because a dimension other than the batch is open.
    """
    inferred = onnx.ModelProto()
    inferred.CopyFrom(model)
    for value in inferred.graph.input:
        value.type.tensor_type.shape.dim[0].dim_value = 1
    # What is noted for another batch would win over what is inferred for one example.
    del inferred.graph.value_info[:]
    for value in inferred.graph.output:
        value.type.tensor_type.ClearField("shape")
    graph = onnx.shape_inference.infer_shapes(inferred, data_prop=True).graph
    shapes = {
        value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in (*graph.input, *graph.value_info, *graph.output)
    } | {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    return Costs(_params(graph), sum(_macs(node, shapes) for node in graph.node if node.op_type in operators))


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
