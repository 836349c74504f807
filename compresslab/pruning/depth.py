"""Whole blocks that a network can do without: found by their shapes, tried, and judged."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from compresslab.models.blocks import remove_blocks
from compresslab.pruning.cutting import output_shape
from compresslab.pruning.groups import LAYERS
from compresslab.pruning.watching import after

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

_LEAST_LAYERS = 2


@dataclass(frozen=True)
class Blocks:
    """What can be removed as a whole, in the network's order, and the blocks that must stay, each with the reason."""

    names: tuple[str, ...]
    kept: Mapping[str, str] = field(default_factory=dict)


def find_blocks(module: nn.Module, example: Tensor) -> Blocks:
    """Finds blocks such as residual ones without a projection, and layers of transformers.

    They are children of an nn.Sequential or nn.ModuleList with at least two layers of weights, whose output has the
    shape of their input; where blocks hold blocks, the inner ones. Each is tried: it is removed from a copy that
    shares the weights, which must run and answer in the same shape.

    Args:
        module: In any mode, left as it is.
        example: A batch of inputs.
    """
    was_training = module.training
    module.eval()
    try:
        expected = output_shape(module, example)
        shapes = _shapes(module, example)
        names: list[str] = []
        kept: dict[str, str] = {}
        for name, siblings in _candidates(module):
            if any(inner.startswith(f"{name}.") for inner in names):
                continue
            reason = _reason(module, name, siblings, shapes, example, expected)
            if reason is None:
                names.append(name)
            else:
                kept[name] = reason
    finally:
        module.train(was_training)
    order = {name: index for index, (name, _) in enumerate(module.named_modules())}
    return Blocks(tuple(sorted(names, key=order.__getitem__)), kept)


def without(module: nn.Module, names: Collection[str], *, share: bool = False) -> nn.Module:
    """A copy of the network without these blocks; the network is left as it is.

    Args:
        module: The network.
        names: Blocks, as `find_blocks` names them.
        share: Whether the copy may have the very weights of `module`: enough to try, not to train.

    Raises:
        ModelError: A name is not a block, or a container would lose its last one.
    """
    shared = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())} if share else {}
    smaller = copy.deepcopy(module, dict[int, object](shared))
    remove_blocks(smaller, names)
    return smaller


@torch.no_grad()
def block_damage(module: nn.Module, names: Iterable[str], judge: Callable[[nn.Module], float]) -> dict[str, float]:
    """How much worse the network is without each of these blocks alone.

    Args:
        module: In the mode that the judge wants; left as it is.
        names: Of blocks that `find_blocks` found.
        judge: How bad a network is, such as the divergence from the teacher on some hundred calibration samples.
    """
    whole = judge(module)
    return {name: judge(without(module, [name], share=True)) - whole for name in names}


def _candidates(module: nn.Module) -> Iterable[tuple[str, int]]:
    """Children of containers with layers enough, inner ones before outer ones, and how many each container has."""
    by_depth = sorted(module.named_modules(), key=lambda one: -one[0].count(".") - bool(one[0]))
    for name, container in by_depth:
        if not isinstance(container, nn.Sequential | nn.ModuleList):
            continue
        for child, block in container.named_children():
            if sum(isinstance(layer, LAYERS) for layer in block.modules()) >= _LEAST_LAYERS:
                yield f"{name}.{child}" if name else child, len(container)


def _reason(
    module: nn.Module,
    name: str,
    siblings: int,
    shapes: Mapping[str, list[tuple[tuple[int, ...] | None, tuple[int, ...] | None]]],
    example: Tensor,
    expected: tuple[int, ...],
) -> str | None:
    """Why the block must stay, or None."""
    calls = shapes.get(name, [])
    if len(calls) != 1:
        return f"it is called {len(calls)} times in one forward"
    [(given, answered)] = calls
    if given is None or answered is None:
        return "what it is given, or what it answers with, is not a tensor"
    if given != answered:
        return f"it makes {list(answered)} of {list(given)}"
    if siblings == 1:
        return "it is the only one of its container"
    try:
        found = output_shape(without(module, [name], share=True), example)
    except (RuntimeError, ValueError, TypeError, IndexError, KeyError, AssertionError, AttributeError) as error:
        return f"the network fails without it: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
    return None if found == expected else f"without it the output is {list(found)} instead of {list(expected)}"


def _shapes(
    module: nn.Module, example: Tensor
) -> dict[str, list[tuple[tuple[int, ...] | None, tuple[int, ...] | None]]]:
    """For each candidate, and each time that it runs, the shapes of its first input and of its (first) output."""
    found: dict[str, list[tuple[tuple[int, ...] | None, tuple[int, ...] | None]]] = {}

    def look(name: str, _: nn.Module, given: tuple[object, ...], named: dict[str, object], answer: object) -> None:
        first = given[0] if given else next(iter(named.values()), None)
        found.setdefault(name, []).append((_shape(first), _shape(answer)))

    with after(module, [name for name, _ in _candidates(module)], look):
        output_shape(module, example)
    return found


def _shape(value: object) -> tuple[int, ...] | None:
    """Of a tensor, or of the first of several, which is what layers of transformers answer with."""
    if isinstance(value, Sequence) and value:
        value = value[0]
    return tuple(value.shape) if isinstance(value, Tensor) else None
