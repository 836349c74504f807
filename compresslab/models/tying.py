"""Tensors that a network has under several names, such as the embeddings that a decoder shares with its encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from compresslab.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


def tied_tensors(module: nn.Module) -> tuple[tuple[str, ...], ...]:
    """The names that stand for one and the same parameter or buffer, where there are several; both in order."""
    kept = module.state_dict(keep_vars=True)
    names: dict[int, list[str]] = {}
    for name, tensor in kept.items():
        names.setdefault(id(tensor), []).append(name)
    return tuple(sorted(tuple(sorted(group)) for group in names.values() if len(group) > 1))


def reshape(module: nn.Module, shapes: Mapping[str, Sequence[int]], tied: Sequence[Sequence[str]]) -> None:
    """Gives parameters and buffers new shapes, in place; their contents are lost where the shape changes.

    Args:
        module: The network.
        shapes: By the names of its state dict. Those it does not have are passed over.
        tied: The names that shall be one tensor; what is one now and not named here becomes several.

    Raises:
        ModelError: Names that are to be tied differ in shape, or cannot be one or several as the modules are shared.
    """
    groups = [*tied, *((name,) for name in shapes if not any(name in group for group in tied))]
    used: set[int] = set()
    for group in groups:
        places = [place for place in (_place(module, name) for name in group) if place is not None]
        if not places or group[0] not in shapes:
            continue  # told with all other differences
        shape = tuple(shapes[group[0]])
        if any(tuple(shapes.get(name, ())) != shape for name in group):
            raise ModelError(f"{_and(group)} are to be one tensor, but have several shapes")
        old = getattr(*places[0])
        new = old if tuple(old.shape) == shape and id(old) not in used else _like(old, shape)
        used.add(id(new))
        for owner, leaf in places:
            setattr(owner, leaf, new)
    _require_tied(module, tied, groups)


def _place(module: nn.Module, name: str) -> tuple[nn.Module, str] | None:
    path, _, leaf = name.rpartition(".")
    try:
        owner = module.get_submodule(path)
    except AttributeError:
        return None
    return (owner, leaf) if isinstance(getattr(owner, leaf, None), Tensor) else None


def _like(old: Tensor, shape: tuple[int, ...]) -> Tensor:
    new = torch.empty(shape, dtype=old.dtype)
    return nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new


def _require_tied(module: nn.Module, tied: Sequence[Sequence[str]], groups: Sequence[Sequence[str]]) -> None:
    """A module that is used twice has one weight under two names, whatever is set: then it cannot be two."""
    wanted = {tuple(sorted(group)) for group in tied}
    known = {name for group in groups for name in group}
    for group in _known(tied_tensors(module), known):
        if group not in wanted:
            raise ModelError(
                f"{_and(group)} belong to a module that the code uses twice, but were saved as several tensors: the "
                "code that builds the network has changed, or one of them was replaced after it was built"
            )


def _known(groups: Sequence[Sequence[str]], names: set[str]) -> Iterator[tuple[str, ...]]:
    for group in groups:
        known = tuple(sorted(name for name in group if name in names))
        if len(known) > 1:
            yield known


def _and(names: Sequence[str]) -> str:
    return " and ".join(f"`{name}`" for name in names)
