"""Two repairs of a calibrated network, layer by layer, against what the float network gives.

They are the mean of every channel, and the direction in which every weight is rounded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, fx, nn

from compresslab.quantization.rounding import round_adaptively
from compresslab.quantization.walking import Values, layers_called_once, walk_side_by_side

if TYPE_CHECKING:
    from collections.abc import Sequence


def correct(graph: fx.GraphModule, batches: Sequence[Tensor], *, rounding_steps: int, biases: bool) -> None:
    """Repairs, in place, the quantized layers in the order in which they compute, so that each sees the ones before it.

    Of the mean error, what remains after the layers before, the weights' rounding and the activations' clipping is
    taken out of the bias. Source: Nagel et al. 2019, arXiv 1906.04721, section 4.2, in its empirical form.

    Args:
        graph: A calibrated network.
        batches: Calibration inputs; all their values at one point are in memory at once.
        rounding_steps: Steps of `round_adaptively` for each layer; none where 0.
        biases: Whether to correct biases.
    """
    once = layers_called_once(graph)

    def visit(node: fx.Node, floating: Values, quantized: Values) -> None:
        if node not in once:
            return
        layer, source = once[node], node.all_input_nodes[0]
        if rounding_steps:
            round_adaptively(layer, quantized[source], floating[node], rounding_steps)
        if biases:
            _correct_bias(layer.layer, [layer(value) for value in quantized[source]], floating[node])

    walk_side_by_side(graph, batches, visit)


def _correct_bias(layer: nn.Module, found: list[Tensor], expected: list[Tensor]) -> None:
    assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Linear)
    error = _channel_means(layer, found) - _channel_means(layer, expected)
    if layer.bias is None:
        layer.bias = nn.Parameter(-error, requires_grad=layer.weight.requires_grad)
    else:
        layer.bias.sub_(error)


def _channel_means(layer: nn.Module, values: list[Tensor]) -> Tensor:
    axis = -1 if isinstance(layer, nn.Linear) else 1
    total = torch.stack([value.double().transpose(0, axis).flatten(1).sum(1) for value in values]).sum(0)
    count = sum(value.numel() for value in values) // len(total)
    return (total / count).float()
