"""Parameters and multiply-adds of a network: counted, and predicted for one that is not cut yet."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from compresslab.pruning.groups import LAYERS, Side
from compresslab.pruning.slices import Slice, slices

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from compresslab.pruning.groups import Group


@dataclass(frozen=True)
class Counts:
    """Parameters, and multiply-adds of convolutions and matrix products for one example."""

    parameters: int
    macs: int


@dataclass(frozen=True)
class _Term:
    """An amount that shrinks with the sides of layers, each of so many channels."""

    parameters: int
    macs: float
    sides: tuple[tuple[tuple[str, Side], int], ...]


@dataclass(frozen=True)
class Sizes:
    """What a network counts, and what it will count with fewer units.

    Args:
        whole: Before anything is cut.
        groups: What can be cut.
    """

    whole: Counts
    groups: tuple[Group, ...]
    _terms: tuple[_Term, ...]

    def at(self, widths: Mapping[str, int]) -> Counts:
        """The counts once each group named has so many units left, exactly as the cut network has them."""
        gone = defaultdict[tuple[str, Side], int](int)
        for group in self.groups:
            removed = group.units - widths.get(group.name, group.units)
            for member in group.members:
                gone[member.layer, member.side] += removed * member.each
        parameters, macs = 0, 0.0
        for term in self._terms:
            share = 1.0
            for side, channels in term.sides:
                share *= (channels - gone[side]) / channels
            parameters += round(term.parameters * share)
            macs += term.macs * share
        return Counts(parameters, round(macs))


@torch.no_grad()
def count(module: nn.Module, example: Tensor) -> Counts:
    """Counts a network as it is, with one example of the batch."""
    return Counts(sum(value.numel() for value in module.parameters()), _macs(module, example)[""])


def sizes(module: nn.Module, groups: Iterable[Group], example: Tensor) -> Sizes:
    """What the network counts with any number of units left in each group.

    Args:
        module: In any mode, left as it is.
        groups: Found in it.
        example: A batch of inputs; the first is run.
    """
    groups = tuple(groups)
    sides = _sides(module, groups)
    macs = _macs(module, example)
    layers = {name for name, layer in module.named_modules() if isinstance(layer, LAYERS) and name}
    terms, counted = [], 0
    for name, value in module.named_parameters():
        layer, _, leaf = name.rpartition(".")
        multiplied = macs[layer] if leaf == "weight" and layer in layers else 0
        counted += multiplied
        terms.append(_Term(value.numel(), multiplied, sides.get(name, ())))
    for group in groups:
        if group.kind == "heads":  # the products of queries, keys and values, which have no weights
            inside = [layer for layer in layers if layer.startswith(f"{group.name}.")]
            products = macs[group.name] - sum(macs[layer] for layer in inside)
            outward = group.members[-1]
            terms.append(_Term(0, products, (((outward.layer, outward.side), group.units * outward.each),)))
            counted += products
    terms.append(_Term(0, macs[""] - counted, ()))
    whole = Counts(sum(value.numel() for value in module.parameters()), macs[""])
    return Sizes(whole, groups, tuple(terms))


def _sides(module: nn.Module, groups: Iterable[Group]) -> dict[str, tuple[tuple[tuple[str, Side], int], ...]]:
    """For each parameter the sides of its layer that it shrinks with, and how wide each is."""
    found = defaultdict[str, dict[tuple[str, Side], int]](dict)
    for group in groups:
        for one in slices(module, group):
            found[one.name][one.member.layer, one.member.side] = _width(module, one)
    return {name: tuple(sides.items()) for name, sides in found.items()}


def _width(module: nn.Module, one: Slice) -> int:
    if isinstance(one.layer, nn.Linear):
        return one.layer.out_features if one.member.side == "out" else one.layer.in_features
    if isinstance(one.layer, nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d):
        return one.layer.out_channels if one.member.side == "out" else one.layer.in_channels
    return int(module.get_parameter(one.name).shape[-1])


@torch.no_grad()
def _macs(module: nn.Module, example: Tensor) -> Mapping[str, int]:
    """Multiply-adds of each module for one example, those of its parts included; of all under the empty name."""
    was_training = module.training
    module.eval()
    try:
        # In plain matrix products, or the fused attention of a CPU is not counted.
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            module(example[:1])
    finally:
        module.train(was_training)
    flops = {name: sum(operations.values()) for name, operations in counter.get_flop_counts().items()}
    # Names begin with the class of the network.
    macs = {name.partition(".")[2]: value // 2 for name, value in flops.items() if name != "Global"}
    return defaultdict(int, {**macs, "": flops.get("Global", 0) // 2})
