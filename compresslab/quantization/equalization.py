"""Cross-layer equalization: what one channel has too much of, the next layer takes back.

A ReLU lets a positive factor through, so a channel may be divided by a number and the weights that read it multiplied
by the same. Chosen so that both layers' ranges match, it undoes channels of unlike size, which the one scale of an
activation suffers from: batch normalization leaves them, most of all before depthwise convolutions.

Source: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019,
arXiv 1906.04721, eq. 11. They turn ReLU6 into ReLU first; here its bound stays, and a channel is moved only as far as
leaves its values, seen on the calibration inputs, where the bound does to them what it did before.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, fx, nn

from compresslab.quantization.fake_quant import ActivationQuantizer
from compresslab.quantization.operators import clamp_range
from compresslab.quantization.tracing import submodule
from compresslab.quantization.walking import Values, layers_called_once, walk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from compresslab.quantization.layers import QuantizedLayer

_ROUNDS = 20
_SETTLED = 1e-3
_LARGEST_FACTOR = 1e4
_SMALLEST_RANGE = 1e-8


def equalize(graph: fx.GraphModule, batches: Sequence[Tensor]) -> int:
    """Equalizes, in place, every chain of layers with nothing but a ReLU or ReLU6 between them.

    Args:
        graph: A prepared network that has not been calibrated.
        batches: Calibration inputs; only what ReLU6 sees of them is used.

    Returns:
        How many pairs of layers there were. In float, the network gives what it gave.
    """
    once = layers_called_once(graph)
    pairs = [pair for node in once if (pair := _pair(graph, node, once)) is not None]
    largest = _largest_values(graph, [node for node, _, bound in pairs if math.isfinite(bound)], batches)
    for _ in range(_ROUNDS):
        change = 1.0
        for first, second, bound in pairs:
            factor = _factor(once[first].layer, once[second].layer)
            if first in largest:
                # What stays below the bound may grow up to it; what reached it must stay as it is.
                factor = torch.where(
                    largest[first] < bound, torch.maximum(factor, largest[first] / bound), torch.ones_like(factor)
                )
                largest[first] = largest[first] / factor
            _move(once[first].layer, once[second].layer, factor)
            change = max(change, float(factor.max()), float(1 / factor.min()))
        if change < 1 + _SETTLED:
            break
    return len(pairs)


def _pair(
    graph: fx.GraphModule, node: fx.Node, once: dict[fx.Node, QuantizedLayer]
) -> tuple[fx.Node, fx.Node, float] | None:
    """The layer, the one that alone reads it, and the upper bound between them."""
    bound, reader = math.inf, node
    while len(reader.users) == 1:
        reader = next(iter(reader.users))
        if reader in once:
            fits = type(once[reader].layer) is type(once[node].layer) and _inputs(once[reader].layer) is not None
            return (node, reader, bound) if fits else None
        limits = clamp_range(graph, reader)
        if limits is not None and limits[0] == 0:
            bound = min(bound, limits[1])
        elif not isinstance(submodule(graph, reader), ActivationQuantizer | nn.Dropout | nn.MaxPool2d):
            return None
    return None


def _inputs(layer: nn.Module) -> int | None:
    """Along which dimension of the weights the input channels run; None where groups mix them."""
    assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Linear)
    if isinstance(layer, nn.Linear) or layer.groups == 1:
        return 1
    return 0 if layer.groups == layer.in_channels == layer.out_channels else None


def _factor(first: nn.Module, second: nn.Module) -> Tensor:
    """float32 [channels]: what the first layer's outputs are divided by."""
    assert isinstance(first.weight, Tensor)
    assert isinstance(second.weight, Tensor)
    inputs = _inputs(second)
    assert inputs is not None
    given = first.weight.detach().abs().flatten(1).amax(1).clamp_min(_SMALLEST_RANGE)
    read = second.weight.detach().abs().transpose(0, inputs).flatten(1).amax(1).clamp_min(_SMALLEST_RANGE)
    return (given / (given * read).sqrt()).clamp(1 / _LARGEST_FACTOR, _LARGEST_FACTOR)


def _move(first: nn.Module, second: nn.Module, factor: Tensor) -> None:
    assert isinstance(first.weight, Tensor)
    assert isinstance(second.weight, Tensor)
    inputs = _inputs(second)
    assert inputs is not None
    with torch.no_grad():
        first.weight.div_(factor.reshape(-1, *[1] * (first.weight.dim() - 1)))
        if isinstance(first.bias, Tensor):
            first.bias.div_(factor)
        second.weight.mul_(factor.reshape([-1 if dim == inputs else 1 for dim in range(second.weight.dim())]))


def _largest_values(
    graph: fx.GraphModule, nodes: Sequence[fx.Node], batches: Sequence[Tensor]
) -> dict[fx.Node, Tensor]:
    """float32 [channels] for each layer: the largest it gives, before the bound."""
    found: dict[fx.Node, Tensor] = {}
    if not nodes:
        return found

    def visit(node: fx.Node, values: Values) -> None:
        if node in nodes:
            axis = -1 if isinstance(_layer_of(graph, node), nn.Linear) else 1
            channels = [value.transpose(0, axis).flatten(1).amax(1) for value in values[node]]
            found[node] = torch.stack(channels).amax(0)

    walk(graph, batches, visit, quantized=False)
    return found


def _layer_of(graph: fx.GraphModule, node: fx.Node) -> object:
    return getattr(submodule(graph, node), "layer", None)
