"""Which operators run as integer kernels, read from the graph as ONNX Runtime runs it, and why the others do not."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import onnxruntime

from compresslab.measure.measurement import IntegerOperators
from compresslab.measure.session import SessionOptions, open_session

if TYPE_CHECKING:
    from collections.abc import Iterator

_ELIGIBLE = ("Conv", "Gemm", "MatMul", "Add", "AveragePool", "GlobalAveragePool")
# What is quantized as it comes has integer kernels for products alone.
_ELIGIBLE_DYNAMIC = ("Conv", "Gemm", "MatMul", "MatMulInteger", "ConvInteger")
_INTEGER_KERNELS = (
    "QLinearConv", "ConvInteger", "QGemm", "QLinearMatMul", "MatMulInteger", "MatMulIntegerToFloat",
    "DynamicQuantizeMatMul", "QLinearAdd", "QLinearAveragePool", "QLinearGlobalAveragePool",
)  # fmt: skip
# These pass values on as they are, so they may stand between a DequantizeLinear and its reader.
_MOVES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "MaxPool", "Identity")
_FUSED_CLAMPS = ("Relu", "Clip")


def integer_operators(path: Path, options: SessionOptions) -> IntegerOperators:
    """How many of the eligible operators of a quantized graph run as integer kernels, under these session options.

    Eligible is what the quantizers aim at, because ONNX Runtime has integer kernels for it: Conv, Gemm, MatMul,
    AveragePool, GlobalAveragePool, and Add of two computed tensors (a bias is part of its layer). Max pooling,
    reshaping and activations are not counted: they do no arithmetic of their own, or are fused. In a graph that is
    quantized as its values come only the products are eligible; in a float model nothing is.

    Raises:
        ArtifactError: ONNX Runtime cannot open the file.
    """
    model = onnx.load(str(path))
    if not any(node.op_type in ("QuantizeLinear", "DynamicQuantizeLinear") for node in model.graph.node):
        return IntegerOperators(0, 0)
    source = _Graph.of(model)
    eligible = {f"operator<{index}>": node for index, node in enumerate(source.eligible())}
    names = {tag: node.name for tag, node in eligible.items()}
    kernels = _kernels(model, eligible, options)
    integer = [tag for tag in eligible if any(tag in kernel for kernel in kernels)]
    floating = tuple(
        f"{names[tag] or node.output[0]} ({node.op_type}): {source.reason(node)}"
        for tag, node in eligible.items()
        if tag not in integer
    )
    return IntegerOperators(len(eligible), len(integer), floating)


def _kernels(model: onnx.ModelProto, tagged: dict[str, onnx.NodeProto], options: SessionOptions) -> list[str]:
    """The names of the integer kernels in the optimised graph, each of which contains the tag of what it was."""
    for tag, node in tagged.items():
        node.name = tag
    with tempfile.TemporaryDirectory() as folder:
        draft, optimized = Path(folder, "tagged.onnx"), Path(folder, "optimized.onnx")
        onnx.save(model, str(draft))
        open_session(draft, options, threads=1, optimized=optimized)
        graph = onnx.load(str(optimized)).graph
    return [node.name for node in graph.node if node.op_type in _INTEGER_KERNELS]


@dataclass(frozen=True)
class _Graph:
    """Who makes and who reads each value."""

    nodes: tuple[onnx.NodeProto, ...]
    makers: dict[str, onnx.NodeProto]
    readers: dict[str, list[onnx.NodeProto]]
    constants: frozenset[str]

    @classmethod
    def of(cls, model: onnx.ModelProto) -> _Graph:
        nodes = tuple(model.graph.node)
        readers: dict[str, list[onnx.NodeProto]] = {}
        for node in nodes:
            for name in node.input:
                readers.setdefault(name, []).append(node)
        constants = {tensor.name for tensor in model.graph.initializer}
        for node in nodes:
            if node.input and all(name in constants for name in node.input if name):
                constants.update(node.output)
        return cls(nodes, {name: node for node in nodes for name in node.output}, readers, frozenset(constants))

    def eligible(self) -> Iterator[onnx.NodeProto]:
        dynamic = any(node.op_type == "DynamicQuantizeLinear" for node in self.nodes)
        eligible = _ELIGIBLE_DYNAMIC if dynamic else _ELIGIBLE
        for node in self.nodes:
            computed = [name for name in node.input if name not in self.constants]
            if node.op_type in eligible and (node.op_type != "Add" or len(computed) == 2):
                yield node

    def reason(self, node: onnx.NodeProto) -> str:
        """Why the node has no integer kernel, as far as the graph tells."""
        # Weights first: they tell more than what is around the operator.
        for name in reversed(node.input[:2]):
            if name in self.constants and not self._dequantized(name):
                return "its weights are float"
            if not self._dequantized(name):
                maker = self.makers.get(name)
                return (
                    "its input is the model's, in float"
                    if maker is None
                    else f"its input comes from {maker.op_type} in float"
                )
        readers = self.readers.get(node.output[0], [])
        if len(readers) == 1 and readers[0].op_type in _FUSED_CLAMPS:
            readers = self.readers.get(readers[0].output[0], [])
        for reader in readers:
            if reader.op_type != "QuantizeLinear":
                return f"its result goes to {reader.op_type}, which reads floats"
        if not readers:
            return "its result is the model's output, in float"
        return f"ONNX Runtime {onnxruntime.__version__} has no integer kernel for it as it stands"

    def _dequantized(self, name: str) -> bool:
        maker = self.makers.get(name)
        while maker is not None and maker.op_type in _MOVES:
            maker = self.makers.get(maker.input[0])
        return maker is not None and maker.op_type == "DequantizeLinear"
