"""Cuts units out of a network, layer by layer, with torch-pruning's functions for each type of layer."""

from __future__ import annotations

import copy
from collections import defaultdict
from typing import TYPE_CHECKING

import torch
import torch_pruning as tp
from torch import Tensor, nn

from compresslab.errors import ModelError
from compresslab.pruning.attention import set_heads
from compresslab.pruning.groups import Group, Side

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def cut(
    module: nn.Module, groups: Iterable[Group], keep: Mapping[str, Iterable[int]], *, share: bool = False
) -> nn.Module:
    """A network with only the units that are to be kept.

    Args:
        module: The network that the groups were found in; left as it is.
        groups: What can be cut; groups that `keep` does not name stay whole.
        keep: For each group, by name, the units that stay.
        share: Whether weights of uncut layers may be those of `module`: enough to try, not to train.

    Raises:
        ModelError: A group would be left without any unit, or a unit is not there.
    """
    shared = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    smaller = copy.deepcopy(module, shared)
    removed = defaultdict[tuple[str, Side], set[int]](set)
    for group in groups:
        if group.name not in keep:
            continue
        staying = set(keep[group.name])
        if not staying or not staying <= set(range(group.units)):
            raise ModelError(
                f"`{group.name}` has {group.units} units and cannot keep "
                f"{'none of them' if not staying else f'units {sorted(staying)}'}; leave at least one"
            )
        gone = sorted(set(range(group.units)) - staying)
        if not gone:
            continue
        for member in group.members:
            removed[member.layer, member.side].update(member.index[gone].flatten().tolist())
        if group.kind == "heads":
            set_heads(smaller.get_submodule(group.name), len(staying))
    for (layer, side), channels in removed.items():
        _narrow(smaller, layer, side, sorted(channels))
    return smaller if share else copy.deepcopy(smaller)


@torch.no_grad()
def output_shape(module: nn.Module, example: Tensor) -> tuple[int, ...]:
    """Shape of what the network gives for `example`."""
    return tuple(module(example).shape)


def _narrow(module: nn.Module, name: str, side: Side, channels: list[int]) -> None:
    path, _, leaf = name.rpartition(".")
    target = getattr(module.get_submodule(path), leaf) if leaf else module
    if isinstance(target, nn.Parameter):
        # A position or a token of its own: its last dimension is the channels.
        parameter = tp.prune_parameter_out_channels(target, channels)
        setattr(module.get_submodule(path), leaf, nn.Parameter(parameter.detach(), target.requires_grad))
        return
    kind = tp.pruner.function.PrunerBox[tp.ops.module2type(target)]
    (kind.prune_out_channels if side == "out" else kind.prune_in_channels)(target, channels)
