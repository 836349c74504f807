"""Whole blocks taken out of a network: from the network, and from the plain data that builds it again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from compresslab.errors import ModelError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

REMOVED = "removed"


def remove_blocks(module: nn.Module, names: Collection[str]) -> None:
    """Deletes blocks from the nn.ModuleList or nn.Sequential that holds each, in place; those behind move up.

    Whether the network still runs is for the caller to try: a block that changes the shape cannot be missed.

    Args:
        module: The network.
        names: As `named_modules()` has them now, such as `bert.encoder.layer.3`; each counts before any is deleted.

    Raises:
        ModelError: A name is not a block of such a container, lies inside another one, or is its container's last.
            Nothing was deleted then.
    """
    gone: dict[str, list[str]] = {}
    for name in sorted(set(names)):
        _require_outside(name, names)
        path, _, block = name.rpartition(".")
        gone.setdefault(path, []).append(block)
    containers = {path: _container(module, path, blocks) for path, blocks in gone.items()}
    for path, container in containers.items():
        if _is_numbered(container):
            for index in sorted(map(int, gone[path]), reverse=True):
                del container[index]
        else:
            for block in gone[path]:
                delattr(container, block)


def without_blocks(builder: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """The plain data that builds the network after `remove_blocks(module, names)`.

    Args:
        builder: What builds the network before, `TorchModel.builder`; blocks may be missing from it already.
        names: The same that `remove_blocks` was given. They are kept as the untouched network numbers them, so that a
            network that is cut several times is still built in one go.
    """
    before = tuple(builder.get(REMOVED, ()))
    found = {*before, *(_original(name, before) for name in names)}
    outermost = [name for name in found if not any(name.startswith(f"{other}.") for other in found)]
    return {**builder, REMOVED: sorted(outermost, key=_in_order)}


def _require_outside(name: str, names: Collection[str]) -> None:
    outer = next((other for other in names if name.startswith(f"{other}.")), None)
    if outer is not None:
        raise ModelError(f"block `{name}` lies inside `{outer}`, which is removed as well; name the outer one alone")


def _container(module: nn.Module, name: str, blocks: Collection[str]) -> nn.ModuleList | nn.Sequential:
    """The container with this name, once it is certain that it can do without these blocks."""
    try:
        found = module.get_submodule(name)
    except AttributeError:
        found = None
    whole = [f"{name}.{block}" if name else block for block in blocks]
    if not isinstance(found, nn.ModuleList | nn.Sequential):
        kind = "which is not there" if found is None else f"a {type(found).__name__}"
        raise ModelError(
            f"`{whole[0]}` is no block that can be removed: `{name}`, {kind}, is no nn.ModuleList or nn.Sequential"
        )
    there = [child for child, _ in found.named_children()]
    for block, full in zip(blocks, whole, strict=True):
        if block not in there:
            raise ModelError(f"`{name}` has no block `{full}`{did_you_mean(block, there)}; it has {len(there)} blocks")
    if len(blocks) >= len(found):
        raise ModelError(f"`{name}` would lose all its {len(found)} blocks; leave at least one of them")
    if not _is_numbered(found) and any(child.isdigit() for child in there):
        raise ModelError(f"the blocks of `{name}` are numbered with gaps ({', '.join(there)}) and cannot be told apart "
                         "once one is gone; build the container from a plain list")  # fmt: skip
    return found


def _is_numbered(container: nn.ModuleList | nn.Sequential) -> bool:
    return [name for name, _ in container.named_children()] == [str(index) for index in range(len(container))]


def _original(name: str, removed: Collection[str]) -> str:
    """The name that a block had before those in `removed`, original names as well, were deleted."""
    parts: list[str] = []
    for part in name.split("."):
        container = ".".join(parts)
        gone = [other.rpartition(".")[2] for other in removed if other.rpartition(".")[0] == container]
        if part.isdigit():
            index = int(part)
            for missing in sorted(int(one) for one in gone if one.isdigit()):
                index += missing <= index
            part = str(index)
        parts.append(part)
    return ".".join(parts)


def _in_order(name: str) -> list[tuple[int, int, str]]:
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in name.split(".")]
