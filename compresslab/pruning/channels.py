"""Removes the least important channels, in groups that the dependency graph says belong together."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Literal

import torch_pruning as tp
from torch import Tensor, nn

from compresslab.errors import ModelError
from compresslab.pruning.head import PRUNABLE, output_layers, output_shape

Importance = Literal["magnitude", "taylor"]
Scope = Literal["local", "global"]

_MOST_OF_ONE_LAYER = 0.9


def prune_channels(
    module: nn.Module,
    example: Tensor,
    *,
    ratio: float,
    importance: Importance = "taylor",
    scope: Scope = "global",
    round_to: int = 8,
    accumulate: Callable[[nn.Module], None] | None = None,
) -> tuple[nn.Module, dict[str, Any]]:
    """A copy of `module` with about `ratio` of its channels removed, and the widths before and after.

    Channels are removed in the groups of torch-pruning's dependency graph (Fang et al., "DepGraph", CVPR 2023,
    arXiv 2301.12900), so that residual additions and normalisations stay consistent. Layers that make the network's
    output are found and kept.

    Args:
        module: The network; left as it is.
        example: One batch of inputs.
        ratio: Share of channels to remove, 0 < ratio < 1. Parameters fall faster: about as (1 - ratio)^2.
        importance: `magnitude`: L2 norm of a group's weights; `taylor`: first-order change of the loss when a channel
            is removed (Molchanov et al., CVPR 2019, arXiv 1906.10771), from gradients on `samples`.
        scope: `local`: every group loses the same share; `global`: channels of all groups compete.
        round_to: Widths become multiples of this; a width that fills no SIMD register whole is slower than a
            larger one that does.
        accumulate: Leaves the gradients of a loss on real samples in the network it is given; `taylor` needs it.

    Raises:
        ModelError: The network cannot be traced, nothing was removed, or its output would change shape.
    """
    pruned = copy.deepcopy(module).eval()
    before = _widths(pruned)
    expected = output_shape(pruned, example)
    try:
        ignored = output_layers(pruned, example)
        pruner = tp.pruner.BasePruner(
            pruned,
            example,
            importance=_score(importance),
            global_pruning=scope == "global",
            pruning_ratio=ratio,
            max_pruning_ratio=max(ratio, _MOST_OF_ONE_LAYER),
            round_to=round_to,
            ignored_layers=list(ignored),
        )
    except (RuntimeError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise ModelError(
            f"torch-pruning cannot follow the channels of {type(module).__name__}: {error}; its forward must run on "
            "one tensor and build an autograd graph"
        ) from error
    if importance == "taylor":
        if accumulate is None:
            raise ModelError("Taylor importance needs gradients on real samples, but no `accumulate` was given")
        accumulate(pruned)
    pruner.step()
    pruned.zero_grad(set_to_none=True)
    after = _widths(pruned)
    if after == before:
        raise ModelError(
            f"pruning with ratio {ratio:g} and round_to {round_to} removes nothing from {type(module).__name__}; "
            "raise `ratio` or lower `round_to`"
        )
    found = output_shape(pruned, example)
    if found != expected:
        raise ModelError(f"pruning would change the output's shape from {list(expected)} to {list(found)}")
    widths = {name: [before[name], after[name]] for name in before if before[name] != after[name]}
    return pruned, {"widths": widths, "kept_whole": sorted(set(before) - set(widths))}


def _score(importance: Importance) -> tp.importance.Importance:
    if importance == "magnitude":
        return tp.importance.GroupMagnitudeImportance(p=2)
    return tp.importance.GroupTaylorImportance()


def _widths(module: nn.Module) -> dict[str, int]:
    """Output width of every layer that has one."""
    return {
        name: layer.out_channels if isinstance(layer, nn.Conv2d) else layer.out_features
        for name, layer in module.named_modules()
        if isinstance(layer, PRUNABLE)
    }
