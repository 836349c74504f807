"""From fake quantization to the real thing."""

from __future__ import annotations

import copy
from collections import Counter

import torch
from torch import fx, nn

from compresslab.errors import ModelError
from compresslab.quantization.fake_quant import ACTIVATION_RANGE, ActivationQuantizer
from compresslab.quantization.insertion import quantizers
from compresslab.quantization.integer import IntegerEmbedding, IntegerLayer, QuantizeDequantize
from compresslab.quantization.layers import QuantizedEmbedding, QuantizedLayer
from compresslab.quantization.operators import clamp_range, is_layer, rescaling
from compresslab.quantization.tracing import shape_of, submodule


def convert(prepared: nn.Module) -> nn.Module:
    """A copy in eval mode that holds int8 weights and exports as a graph of Q/DQ pairs. The argument is unchanged.

    A ReLU that its quantizer makes superfluous (uint8 ends at zero anyway) is dropped.

    Raises:
        ModelError: The network was not prepared, or not calibrated.
    """
    simulated = (QuantizedLayer, QuantizedEmbedding, ActivationQuantizer)
    if not isinstance(prepared, fx.GraphModule) or not any(isinstance(part, simulated) for part in prepared.modules()):
        raise ModelError(f"{type(prepared).__name__} has no quantizers to convert; call `prepare` first")
    unset = [name for name, quantizer in quantizers(prepared) if not quantizer.calibrated]
    if unset:
        raise ModelError(f"{len(unset)} quantizers have no range yet, such as `{unset[0]}`; call `calibrate` first")
    graph = copy.deepcopy(prepared).eval()
    _fold_units(graph)
    # A module may be called more than once, so they are all looked at before the first is replaced.
    calls = {node: submodule(graph, node) for node in graph.graph.nodes}
    mixed = any(map(is_layer, calls.values()))
    for node, part in calls.items():
        if isinstance(part, QuantizedLayer):
            matrix = isinstance(part.layer, nn.Linear) and len(shape_of(node)) == 2
            fused = matrix or not isinstance(part.layer, nn.Linear)
            needed = fused and (mixed or not _reaches_quantizer(graph, node))
            scale = _scale_of_input(graph, node) if needed else None
            graph.set_submodule(str(node.target), IntegerLayer(part, scale, matrix=matrix))
        elif isinstance(part, QuantizedEmbedding):
            graph.set_submodule(str(node.target), IntegerEmbedding(part))
    for node, part in calls.items():
        if isinstance(part, ActivationQuantizer):
            _drop_clamp(graph, node, part)
    for node, part in calls.items():
        if isinstance(part, ActivationQuantizer):
            graph.set_submodule(str(node.target), QuantizeDequantize(*part.grid))
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
