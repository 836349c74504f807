"""From fake quantization to the real thing: int8 weight buffers and Q/DQ operators that export to ONNX."""

from __future__ import annotations

import copy
from collections import Counter

import torch

# Registers torch.ops.quantized_decomposed, which has no public door.
import torch.ao.quantization.fx._decomposed
from torch import Tensor, fx, nn

from compresslab.errors import ModelError
from compresslab.quantization.fake_quant import ACTIVATION_RANGE, WEIGHT_RANGE, ActivationQuantizer
from compresslab.quantization.insertion import QuantizedLayer, layer_function, quantizers
from compresslab.quantization.operators import clamp_range, is_layer, rescaling
from compresslab.quantization.tracing import submodule

_QDQ = torch.ops.quantized_decomposed
_INT32 = (-(2**31), 2**31 - 1)


class QuantizeDequantize(nn.Module):
    """To uint8 and back, with constants: QuantizeLinear and DequantizeLinear in the exported graph."""

    def __init__(self, scale: float, zero_point: int) -> None:
        super().__init__()
        self.scale = scale
        self.zero_point = zero_point

    def forward(self, x: Tensor) -> Tensor:
        """float32 on the grid."""
        grid = (self.scale, self.zero_point, *ACTIVATION_RANGE, torch.uint8)
        values: Tensor = _QDQ.dequantize_per_tensor(_QDQ.quantize_per_tensor(x, *grid), *grid)
        return values


class IntegerLayer(nn.Module):
    """A layer whose weights are stored as int8 with one scale for each output channel.

    Args:
        quantized: The fake-quantized layer.
        input_scale: Given where the output stays float: the bias is stored as int32 then, since only with integer
            operands throughout does ONNX Runtime run the layer as an integer kernel that writes floats. Elsewhere it
            turns a float bias into int32 itself, and the file is smaller; unless other layers stay in float, as the
            same optimizer of its would round their weights, and is switched off for that (see `export`).
    """

    weight: Tensor
    scale: Tensor
    zero_point: Tensor | None
    bias: Tensor
    bias_scale: Tensor | None

    def __init__(self, quantized: QuantizedLayer, input_scale: float | None) -> None:
        super().__init__()
        layer = quantized.layer
        weight = layer.weight.detach()
        self._compute = layer_function(layer)
        self.register_buffer("weight", quantized.weights.integers(weight))
        self.register_buffer("scale", quantized.weights.scale(weight).detach().clone())
        # A linear layer without bias would be exported as a transposed MatMul, which has no integer kernel.
        bias = torch.zeros(len(weight)) if layer.bias is None else layer.bias.detach().float().clone()
        bias_scale = None if input_scale is None else self.scale * input_scale
        if bias_scale is not None:
            bias = (bias / bias_scale).round().clamp(*_INT32).to(torch.int32)
        # ONNX Runtime's integer GEMM wants the zero points spelt out; convolutions do without, in a smaller file.
        zero_point = torch.zeros(len(weight), dtype=torch.int8) if isinstance(layer, nn.Linear) else None
        self.register_buffer("zero_point", zero_point)
        self.register_buffer("bias", bias)
        self.register_buffer("bias_scale", bias_scale)

    def forward(self, x: Tensor) -> Tensor:
        """What the layer gives with its integer weights."""
        weight = _per_channel(self.weight, self.scale, self.zero_point, WEIGHT_RANGE)
        bias = self.bias if self.bias_scale is None else _per_channel(self.bias, self.bias_scale, None, _INT32)
        return self._compute(x, weight, bias)


def convert(prepared: nn.Module) -> nn.Module:
    """A copy in eval mode that holds int8 weights and exports as a graph of Q/DQ pairs. The argument is unchanged.

    A ReLU that its quantizer makes superfluous (uint8 ends at zero anyway) is dropped.

    Raises:
        ModelError: The network was not prepared, or not calibrated.
    """
    if not isinstance(prepared, fx.GraphModule) or not any(quantizers(prepared)):
        raise ModelError(f"{type(prepared).__name__} has no quantizers to convert; call `prepare` first")
    unset = [name for name, quantizer in quantizers(prepared) if not quantizer.calibrated]
    if unset:
        raise ModelError(f"{len(unset)} quantizers have no range yet, such as `{unset[0]}`; call `calibrate` first")
    graph = copy.deepcopy(prepared).eval()
    _fold_units(graph)
    mixed = any(is_layer(submodule(graph, node)) for node in graph.graph.nodes)
    for node in list(graph.graph.nodes):
        if isinstance(layer := submodule(graph, node), QuantizedLayer):
            needed = mixed or not _reaches_quantizer(graph, node)
            graph.set_submodule(str(node.target), IntegerLayer(layer, _scale_of_input(graph, node) if needed else None))
    for node in list(graph.graph.nodes):
        if isinstance(quantizer := submodule(graph, node), ActivationQuantizer):
            _drop_clamp(graph, node, quantizer)
            graph.set_submodule(str(node.target), QuantizeDequantize(*quantizer.grid))
    graph.delete_all_unused_submodules()
    graph.recompile()
    return graph


def _fold_units(graph: fx.GraphModule) -> None:
    """`layer(x) * a + b`, by which a network answers in the units of its targets, becomes the layer's own weights.

    Left to itself it would be two operators in float, whatever the layer before them does. The integers stay the same,
    as every channel's scale follows its weights.
    """
    calls = Counter(str(node.target) for node in graph.graph.nodes if node.op == "call_module")
    for node in list(graph.graph.nodes):
        quantized = submodule(graph, node)
        if not isinstance(quantized, QuantizedLayer) or calls[str(node.target)] != 1:
            continue
        while len(node.users) == 1 and (numbers := rescaling(following := next(iter(node.users)))) is not None:
            _rescale(quantized.layer, *numbers)
            following.replace_all_uses_with(node)
            graph.graph.erase_node(following)


def _rescale(layer: nn.Module, factor: float, offset: float) -> None:
    assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Linear)
    with torch.no_grad():
        bias = torch.zeros(len(layer.weight)) if layer.bias is None else layer.bias
        layer.weight.mul_(factor)
        layer.bias = nn.Parameter(bias * factor + offset, requires_grad=False)


def _scale_of_input(graph: fx.GraphModule, node: fx.Node) -> float:
    """The scale of a layer's input."""
    source = node.all_input_nodes[0]
    while not isinstance(quantizer := submodule(graph, source), ActivationQuantizer):
        source = source.all_input_nodes[0]
    return quantizer.grid[0]


def _reaches_quantizer(graph: fx.GraphModule, node: fx.Node) -> bool:
    followers = [*node.users, *(after for user in node.users if clamp_range(graph, user) for after in user.users)]
    return any(isinstance(submodule(graph, user), ActivationQuantizer) for user in followers)


def _drop_clamp(graph: fx.GraphModule, node: fx.Node, quantizer: ActivationQuantizer) -> None:
    """Removes the clamp before a quantizer whose grid ends, to half a step, within the clamp's bounds."""
    clamp = node.all_input_nodes[0]
    bounds = clamp_range(graph, clamp)
    if bounds is None or len(clamp.users) > 1:
        return
    scale, zero_point = quantizer.grid
    lowest, highest = ((end - zero_point) * scale for end in ACTIVATION_RANGE)
    if lowest >= bounds[0] - scale / 2 and highest <= bounds[1] + scale / 2:
        node.replace_input_with(clamp, clamp.all_input_nodes[0])
        graph.graph.erase_node(clamp)


def _per_channel(values: Tensor, scale: Tensor, zero_point: Tensor | None, limits: tuple[int, int]) -> Tensor:
    floats: Tensor = _QDQ.dequantize_per_channel(values, scale, zero_point, 0, *limits, values.dtype)
    return floats
