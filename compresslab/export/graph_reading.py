"""The operators of a graph that have an integer kernel, and what is around each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx
import onnxruntime

if TYPE_CHECKING:
    from collections.abc import Iterator

_ELIGIBLE = ("Conv", "Gemm", "MatMul", "Add", "AveragePool", "GlobalAveragePool")
# What is quantized as it comes has integer kernels for products alone.
_ELIGIBLE_DYNAMIC = ("Conv", "Gemm", "MatMul", "MatMulInteger", "ConvInteger")
# These pass values on as they are, so they may stand between a DequantizeLinear and its reader.
_MOVES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "MaxPool", "Identity")
_NORMALIZATIONS = ("LayerNormalization", "RMSNormalization")
_FUSED_CLAMPS = ("Relu", "Clip")
# Activations that ONNX Runtime computes in float only, whatever is around them.
_FLOAT_ACTIVATIONS = (
    "HardSwish", "HardSigmoid", "Elu", "Selu", "Celu", "Gelu", "Erf", "Mish", "PRelu", "Softplus", "Softsign", "Tanh",
    "ThresholdedRelu",
)  # fmt: skip


@dataclass(frozen=True)
class GraphReading:
    """Who makes and who reads each value."""

    nodes: tuple[onnx.NodeProto, ...]
    makers: dict[str, onnx.NodeProto]
    readers: dict[str, list[onnx.NodeProto]]
    constants: frozenset[str]

    @classmethod
    def of(cls, model: onnx.ModelProto) -> GraphReading:
        """What the file says."""
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
        """The operators that have an integer kernel, in the file's order.

        An Add only of two computed tensors, and not where it belongs to the stream of residuals between normalizations
        (see `_stream`).
        """
        dynamic = any(node.op_type == "DynamicQuantizeLinear" for node in self.nodes)
        eligible = _ELIGIBLE_DYNAMIC if dynamic else _ELIGIBLE
        stream = self._stream()
        for node in self.nodes:
            computed = [name for name in node.input if name not in self.constants]
            if node.op_type in eligible and (
                node.op_type != "Add" or (len(computed) == 2 and node.output[0] not in stream)
            ):
                yield node

    def interrupting(self) -> Iterator[onnx.NodeProto]:
        """The activations between integers that have no integer kernel, in the file's order.

        Each costs two conversions beside itself. One that has floats on a side anyway interrupts nothing.
        """
        for node in self.nodes:
            readers = (reader.op_type for reader in self.readers.get(node.output[0], []))
            if node.op_type in _FLOAT_ACTIVATIONS and self.dequantized(node.input[0]) and "QuantizeLinear" in readers:
                yield node

    def name(self, node: onnx.NodeProto) -> str:
        """By which a reader may find it; of an activation, which has no weights, the layer that it is of."""
        if node.op_type in _FLOAT_ACTIVATIONS:
            maker = self.makers.get(node.input[0])
            while maker is not None and maker.op_type in ("QuantizeLinear", "DequantizeLinear", *_MOVES):
                maker = self.makers.get(maker.input[0])
            if maker is not None and maker.name:
                return f"behind {maker.name}"
        return node.name or str(node.output[0])

    def _stream(self) -> frozenset[str]:
        """The sums that a LayerNormalization reads, perhaps by way of other sums, and those that such a sum goes to.

        They are float whatever is around them: integers would cost precision and two conversions, so no quantizer aims
        at them. A sum that stands next to integers is none of them.
        """
        found: set[str] = set()
        sums = [node for node in self.nodes if node.op_type == "Add" and not self._next_to_integers(node)]
        for node in reversed(sums):
            readers = self._past_moves(node.output[0])
            if any(one.op_type in _NORMALIZATIONS or one.output[0] in found for one in readers):
                found.add(node.output[0])
        for node in sums:
            if any(self._before_moves(name) in found for name in node.input):
                found.add(node.output[0])
        return frozenset(found)

    def _next_to_integers(self, node: onnx.NodeProto) -> bool:
        reading = (reader.op_type for reader in self._past_moves(self.after(node)))
        return any(map(self.dequantized, node.input)) or "QuantizeLinear" in reading

    def _past_moves(self, name: str) -> list[onnx.NodeProto]:
        """Who reads the value, moved or not."""
        readers: list[onnx.NodeProto] = []
        for reader in self.readers.get(name, []):
            readers += self._past_moves(reader.output[0]) if reader.op_type in _MOVES else [reader]
        return readers

    def _before_moves(self, name: str) -> str:
        maker = self.makers.get(name)
        while maker is not None and maker.op_type in _MOVES:
            name = maker.input[0]
            maker = self.makers.get(name)
        return name

    def reason(self, node: onnx.NodeProto) -> str:
        """Why the node has no integer kernel, as far as the graph tells."""
        if node.op_type in _FLOAT_ACTIVATIONS:
            return f"ONNX Runtime {onnxruntime.__version__} has no integer kernel for {node.op_type}"
        # Weights first: they tell more than what is around the operator.
        for name in reversed(node.input[:2]):
            if name in self.constants and not self.dequantized(name):
                return "its weights are float"
            if not self.dequantized(name):
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

    def after(self, node: onnx.NodeProto) -> str:
        """What the node gives, behind the activation that is fused into it where there is one."""
        readers = self.readers.get(node.output[0], [])
        fused = len(readers) == 1 and readers[0].op_type in _FUSED_CLAMPS
        return str(readers[0].output[0] if fused else node.output[0])

    def dequantized(self, name: str) -> bool:
        """Whether the value lies on the grid of integers that a DequantizeLinear has given."""
        maker = self.makers.get(name)
        while maker is not None and maker.op_type in _MOVES:
            maker = self.makers.get(maker.input[0])
        return maker is not None and maker.op_type == "DequantizeLinear"
