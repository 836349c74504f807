"""What of each tensor belongs to each unit of a group: the weights that go when the unit goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn

from compresslab.pruning.groups import LAYERS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from compresslab.pruning.groups import Group, Member, Side

NORMALIZATIONS = (
    nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d,
    nn.GroupNorm, nn.LayerNorm,
)  # fmt: skip


@dataclass(frozen=True)
class Slice:
    """One parameter of a member, and how it falls into units.

    Args:
        member: The side of a layer, or the bare parameter.
        layer: The layer itself; None for a bare parameter.
        name: The parameter's name in the network.
        leaf: Its name in the layer, such as `weight`; empty for a bare parameter.
    """

    member: Member
    layer: nn.Module | None
    name: str
    leaf: str

    def of(self, tensor: Tensor) -> Tensor:
        """The entries of each unit, [units, n], of a tensor shaped like the parameter: itself or its gradient."""
        by_channel = _by_channel(self.layer, self.leaf, self.member.side, tensor)
        return by_channel[self.member.index.to(tensor.device)].flatten(1)


def slices(network: nn.Module, group: Group) -> Iterator[Slice]:
    """The parameters that shrink when a unit of the group is cut.

    Those of layers, normalizations, embeddings and PReLUs, and bare parameters; a type that is none of these has none.
    """
    for member in group.members:
        found = part(network, member.layer)
        if isinstance(found, nn.Parameter):
            yield Slice(member, None, member.layer, "")
            continue
        for leaf in _leaves(found, member.side):
            yield Slice(member, found, f"{member.layer}.{leaf}" if member.layer else leaf, leaf)


def part(network: nn.Module, name: str) -> nn.Module | nn.Parameter:
    """The layer or the bare parameter with this name."""
    path, _, leaf = name.rpartition(".")
    found = getattr(network.get_submodule(path), leaf) if leaf else network
    assert isinstance(found, nn.Module | nn.Parameter)
    return found


def _leaves(layer: nn.Module, side: Side) -> list[str]:
    leaves: tuple[str, ...]
    if isinstance(layer, LAYERS):
        leaves = ("weight", "bias") if side == "out" else ("weight",)
    elif isinstance(layer, NORMALIZATIONS):
        leaves = ("weight", "bias")
    elif isinstance(layer, nn.Embedding) or (isinstance(layer, nn.PReLU) and layer.num_parameters > 1):
        leaves = ("weight",)
    else:
        leaves = ()
    return [leaf for leaf in leaves if getattr(layer, leaf, None) is not None]


def _by_channel(layer: nn.Module | None, leaf: str, side: Side, tensor: Tensor) -> Tensor:
    """The tensor as [channels of this side, ...]."""
    if layer is None or isinstance(layer, nn.Embedding | nn.LayerNorm):
        return tensor.movedim(-1, 0)
    if leaf != "weight" or not isinstance(layer, LAYERS):
        return tensor
    if isinstance(layer, nn.Linear):
        return tensor if side == "out" else tensor.T
    # A transposed convolution's weight is [in, out / groups, ...], any other's [out, in / groups, ...].
    first = "in" if isinstance(layer, nn.ConvTranspose2d) else "out"
    if side == first:
        return tensor
    grouped = tensor.reshape(layer.groups, -1, *tensor.shape[1:])
    return grouped.transpose(1, 2).flatten(0, 1)
