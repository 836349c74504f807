"""What can be cut from a network, as plain data: units that go together, and what each takes with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Side = Literal["out", "in"]

LAYERS = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
"""What multiplies channels; the other layers follow these."""


@dataclass(frozen=True)
class Member:
    """One side of a layer, or a bare parameter, whose width follows a group.

    Args:
        layer: Its name in the network.
        side: Its outputs or its inputs; a normalization, an embedding or a parameter has outputs only.
        index: int64 [units, k]: which channels of that side belong to each unit.
    """

    layer: str
    side: Side
    index: Tensor

    @property
    def each(self) -> int:
        """Channels of this side that go with one unit."""
        return self.index.shape[1]


@dataclass(frozen=True)
class Group:
    """Units that can be cut one by one, each taking channels of all members with it.

    Args:
        name: The layer whose outputs (or heads) they are.
        kind: `channels`, or the `heads` of an attention.
        units: How many there are.
        members: What each takes with it; the first is the layer of the name.
    """

    name: str
    kind: Literal["channels", "heads"]
    units: int
    members: tuple[Member, ...]


@dataclass(frozen=True)
class Groups:
    """All that can be cut from a network, and the layers that must keep their outputs, each with the reason."""

    groups: tuple[Group, ...]
    kept: Mapping[str, str] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Group]:
        return iter(self.groups)

    def __getitem__(self, name: str) -> Group:
        return next(group for group in self.groups if group.name == name)
