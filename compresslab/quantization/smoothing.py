"""SmoothQuant: the outliers of an activation move into the weights that read it.

A transformer's normalizations give a few channels values a hundred times those of the rest, and one uint8 scale cannot
hold both. Each channel is divided by a number, inside the LayerNorm before it, and the weights that read it are
multiplied by the same.

Source: Xiao et al., "SmoothQuant", ICML 2023, arXiv 2211.10438, eq. 4, with their migration strength of a half.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, fx, nn

from compresslab.quantization.fake_quant import ActivationQuantizer
from compresslab.quantization.tracing import submodule
from compresslab.quantization.walking import Values, layers_called_once, walk

if TYPE_CHECKING:
    from collections.abc import Sequence

_SMALLEST_RANGE = 1e-5


def smooth(graph: fx.GraphModule, batches: Sequence[Tensor], strength: float) -> int:
    """Smooths, in place, every LayerNorm whose result goes to quantized linear layers only.

    Where a residual reads it too, as in BERT, there is nothing that could take the factor back.

    Args:
        graph: A prepared network that has not been calibrated.
        batches: Calibration inputs.
        strength: How much of the difficulty goes to the weights: 0 none, 1 all.

    Returns:
        How many normalizations that were. In float, the network gives what it gave.
    """
    readers = {node: found for node in graph.graph.nodes if (found := _readers(graph, node))}
    norms = [str(node.target) for node in graph.graph.nodes if isinstance(submodule(graph, node), nn.LayerNorm)]
    readers = {node: found for node, found in readers.items() if norms.count(str(node.target)) == 1}

    def visit(node: fx.Node, values: Values) -> None:
        if node in readers:
            norm = submodule(graph, node)
            assert isinstance(norm, nn.LayerNorm)
            largest = torch.stack([value.abs().flatten(0, -2).amax(0) for value in values[node]]).amax(0)
            _move(norm, readers[node], largest, strength)
            # What was computed from the old weights has to be what the new ones give.
            values[node] = [norm(value) for value in values[node.all_input_nodes[0]]]

    if readers:
        walk(graph, batches, visit, quantized=False)
    return len(readers)


def _readers(graph: fx.GraphModule, node: fx.Node) -> list[nn.Linear]:
    """The linear layers that read a normalization, if nothing else does."""
    norm = submodule(graph, node)
    if not isinstance(norm, nn.LayerNorm) or norm.weight is None or norm.bias is None or len(norm.normalized_shape) > 1:
        return []
    once, found = layers_called_once(graph), []
    pending = list(node.users)
    while pending:
        user = pending.pop()
        if isinstance(submodule(graph, user), ActivationQuantizer | nn.Dropout):
            pending.extend(user.users)
        elif user in once and isinstance(layer := once[user].layer, nn.Linear):
            found.append(layer)
        else:
            return []
    return found


def _move(norm: nn.LayerNorm, layers: list[nn.Linear], largest: Tensor, strength: float) -> None:
    weights = torch.stack([layer.weight.detach().abs().amax(0) for layer in layers]).amax(0)
    factor = largest.clamp_min(_SMALLEST_RANGE) ** strength / weights.clamp_min(_SMALLEST_RANGE) ** (1 - strength)
    factor = factor.clamp_min(_SMALLEST_RANGE)
    with torch.no_grad():
        norm.weight.div_(factor)
        norm.bias.div_(factor)
        for layer in layers:
            layer.weight.mul_(factor)
