"""Finds the layers whose channels are the network's own outputs, and which therefore must keep their width."""

from __future__ import annotations

import torch
import torch_pruning as tp
from torch import Tensor, nn

PRUNABLE = (nn.Conv2d, nn.Linear)


def output_layers(module: nn.Module, example: Tensor) -> tuple[nn.Module, ...]:
    """The layers whose output channels no other layer consumes: pruning one would change the output's shape.

    torch-pruning cuts such a layer silently (a head of 10 classes to 5) unless it is told to ignore it.
    """
    graph = tp.DependencyGraph().build_dependency(module, example)
    found = []
    for layer in module.modules():
        if not isinstance(layer, PRUNABLE):
            continue
        prune_out = graph.get_pruner_of_module(layer).prune_out_channels
        group = graph.get_pruning_group(layer, prune_out, idxs=[0])
        consumed = any(
            isinstance(item.dep.target.module, PRUNABLE) and not graph.is_out_channel_pruning_fn(item.dep.handler)
            for item in group
        )
        if not consumed:
            found.append(layer)
    return tuple(found)


@torch.no_grad()
def output_shape(module: nn.Module, example: Tensor) -> tuple[int, ...]:
    """Shape of the network's output for `example`, in eval mode and leaving the mode as it was."""
    was_training = module.training
    module.eval()
    shape = tuple(module(example).shape)
    module.train(was_training)
    return shape
