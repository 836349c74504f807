"""Finds which channels can only be cut together, and which layers must stay whole: never told, always found."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

import torch
import torch_pruning as tp
from torch import Tensor, nn

from compresslab.errors import ModelError
from compresslab.pruning.attention import Attention, find_attention
from compresslab.pruning.cutting import cut, output_shape
from compresslab.pruning.groups import LAYERS, Group, Groups, Member, Side
from compresslab.pruning.watching import after, names_of

if TYPE_CHECKING:
    from collections.abc import Mapping

OUTPUTS = "its channels are the network's outputs"


def find_groups(module: nn.Module, example: Tensor) -> Groups:
    """Finds what can be cut without changing the shape of what the network answers.

    The groups are those of torch-pruning's dependency graph (Fang et al., "DepGraph", CVPR 2023, arXiv 2301.12900),
    and the heads of attentions. Whatever the graph says, each is tried: one unit is cut from a copy that shares the
    weights, and a group after which the network fails, or answers in another shape, is kept whole.

    Args:
        module: In any mode, left as it is.
        example: A batch of inputs, such as float32 [n, c, h, w] or int64 [n, tokens].

    Raises:
        ModelError: The network cannot be traced, or nothing of it can be cut.
    """
    was_training = module.training
    module.eval()
    try:
        expected = _expected(module, example)
        found = _of_graph(module, example)
        spare = [group for group in found.groups if group.units > 1]
        kept = {**found.kept, **{group.name: "it has one unit" for group in found.groups if group.units == 1}}
        heads = find_attention(module)
        spare += [_heads(attention) for attention in heads if attention.heads > 1]
        # Mostly the graph is right, and one try for all will do.
        if _failure(module, example, spare, expected) is not None:
            tried = [(group, _failure(module, example, [group], expected)) for group in spare]
            kept |= {group.name: reason for group, reason in tried if reason is not None}
            spare = [group for group, reason in tried if reason is None]
    finally:
        module.train(was_training)
    if not spare:
        reasons = "; ".join(f"`{layer}`: {reason}" for layer, reason in kept.items())
        raise ModelError(f"nothing can be cut from {type(module).__name__}: {reasons or 'it has no layers'}")
    return Groups(tuple(spare), kept)


def _of_graph(module: nn.Module, example: Tensor) -> Groups:
    """The channel groups that the dependency graph shows, and the layers that it shows must stay."""
    graph = _traced(module, example)
    names = {layer: name for name, layer in module.named_modules()}
    names |= {parameter: name for name, parameter in module.named_parameters()}
    calls = _calls(module, example)
    attentions = {layer: one.name for one in find_attention(module) for layer in one.inward}
    groups, kept, seen = [], dict[str, str](), set[str]()
    for root, layer in module.named_modules():
        if not isinstance(layer, LAYERS):
            continue
        if layer not in graph.module2node:
            kept[root] = "no autograd graph of a forward has it"
            continue
        if root in seen:
            continue
        if root in attentions:
            kept[root] = f"it is cut by whole heads, as `{attentions[root]}`"
            continue
        pruner = graph.get_pruner_of_module(layer)
        every = range(pruner.get_out_channels(layer))
        coupled = graph.get_pruning_group(layer, pruner.prune_out_channels, list(every))
        outputs = {
            names[item.dep.target.module]
            for item in coupled
            if isinstance(item.dep.target.module, LAYERS) and graph.is_out_channel_pruning_fn(item.dep.handler)
        }
        seen |= outputs
        group, reason = _group(root, graph, coupled, names)
        shared = [name for name in outputs if calls[name] > 1]
        if shared:
            reason = f"`{shared[0]}` is called {calls[shared[0]]} times in one forward"
        if set(attentions) & outputs:
            reason = f"`{next(iter(set(attentions) & outputs))}` is cut by whole heads"
        if reason is not None:
            kept |= dict.fromkeys(sorted(outputs), reason)
        elif group is not None:
            groups.append(group)
    return Groups(tuple(groups), kept)


def _group(
    root: str, graph: tp.DependencyGraph, coupled: tp.Group, names: Mapping[object, str]
) -> tuple[Group | None, str | None]:
    """The group, or why it is none."""
    width = len(coupled[0].idxs)
    entries: list[tuple[str, Side, list[int], list[int]]] = []
    ties = 1  # channels of grouped convolutions and normalizations go in step, one from each of their groups
    consumed = False
    for item in coupled:
        layer = item.dep.target.module
        if layer not in names:  # additions, reshapes and the like
            continue
        side: Side = "out" if graph.is_out_channel_pruning_fn(item.dep.handler) else "in"
        consumed |= side == "in" and isinstance(layer, LAYERS)
        depthwise = isinstance(layer, nn.Conv2d | nn.Conv1d) and layer.groups == layer.out_channels > 1
        if depthwise:
            if layer.in_channels != layer.out_channels:
                return None, f"`{names[layer]}` is a depthwise convolution with several outputs a channel"
            side = "out"
        elif isinstance(layer, nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d):
            ties = math.lcm(ties, layer.groups)
        elif isinstance(layer, nn.GroupNorm):
            ties = math.lcm(ties, layer.num_groups)
        entries.append((names[layer], side, list(item.idxs), list(item.root_idxs)))
    if not consumed:
        return None, OUTPUTS
    if width % ties:
        return None, f"its {width} channels do not go into {ties} equal groups"
    units = width // ties
    members = dict[tuple[str, Side], Member]()
    for name, side, channels, roots in entries:
        each: list[list[int]] = [[] for _ in range(units)]
        for channel, of in zip(channels, roots, strict=True):
            each[of % units].append(channel)
        if len({len(one) for one in each}) != 1:
            return None, f"`{name}` does not follow every channel alike"
        members.setdefault((name, side), Member(name, side, torch.tensor(each)))
    return Group(root, "channels", units, tuple(members.values())), None


def _heads(attention: Attention) -> Group:
    inward = [Member(layer, "out", index) for layer, index in attention.inward.items()]
    outward = Member(attention.outward, "in", attention.outward_index)
    return Group(attention.name, "heads", attention.heads, (*inward, outward))


def _expected(module: nn.Module, example: Tensor) -> tuple[int, ...]:
    try:
        return output_shape(module, example)
    except (RuntimeError, TypeError, ValueError, LookupError, AttributeError, AssertionError) as error:
        raise ModelError(
            f"{type(module).__name__} cannot be pruned: it must make one tensor of one tensor {list(example.shape)}, "
            f"but fails with {type(error).__name__}: {error}"
        ) from error


def _traced(module: nn.Module, example: Tensor) -> tp.DependencyGraph:
    try:
        return tp.DependencyGraph().build_dependency(module, example, verbose=False)
    except (RuntimeError, TypeError, ValueError, LookupError, AttributeError, AssertionError) as error:
        raise ModelError(
            f"torch-pruning cannot follow the channels of {type(module).__name__}: {error}; its forward must run on "
            "one tensor, do the same for every input and build an autograd graph"
        ) from error


@torch.no_grad()
def _calls(module: nn.Module, example: Tensor) -> Counter[str]:
    """How often each layer runs in one forward."""
    calls = Counter[str]()
    with after(module, names_of(module, LAYERS), lambda name, *_: calls.update((name,))):
        module(example)
    return calls


def _failure(module: nn.Module, example: Tensor, groups: list[Group], expected: tuple[int, ...]) -> str | None:
    """Why one unit of each of these groups cannot be cut, tried on a copy that shares the weights."""
    try:
        found = output_shape(
            cut(module, groups, {group.name: range(1, group.units) for group in groups}, share=True), example
        )
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError, AttributeError) as error:
        return f"the network fails without one of its channels: {str(error).splitlines()[0]}"
    return None if found == expected else f"cutting it changes the output from {list(expected)} to {list(found)}"
