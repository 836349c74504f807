"""What each group can lose: the damage when it alone is cut, measured; and the shares that follow from it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

from compresslab.pruning.cutting import cut
from compresslab.pruning.shares import Reached, allowed, best_units, channels, left, nearest, reach

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from torch import Tensor, nn

    from compresslab.pruning.counting import Sizes
    from compresslab.pruning.groups import Group
    from compresslab.pruning.shares import Target

LEVELS = (0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875)
"""Shares of a group that are removed where nothing else is asked for."""


@dataclass(frozen=True)
class Level:
    """What was really removed of a group, as units are whole, and how much worse the network then is."""

    removed: float
    damage: float


@dataclass(frozen=True)
class GroupSensitivity:
    """The damage when this group alone is cut, by ascending shares.

    Args:
        name: The group.
        units: How many it has.
        channels: How many channels that is.
        levels: At least one.
    """

    name: str
    units: int
    channels: int
    levels: tuple[Level, ...]


@dataclass(frozen=True)
class Sensitivity:
    """What the judge said.

    Args:
        whole: Of the network as it is.
        groups: What was measured, in the network's order.
    """

    whole: float
    groups: tuple[GroupSensitivity, ...]

    def to_plain(self) -> dict[str, Any]:
        """As JSON has it: {whole, groups: [{name, units, channels, levels: [{removed, damage}]}]}."""
        plain = asdict(self)
        plain["groups"] = [{**group, "levels": list(group["levels"])} for group in plain["groups"]]
        return plain


@torch.no_grad()
def sensitivity(
    network: nn.Module,
    groups: Iterable[Group],
    scores: Mapping[str, Tensor],
    judge: Callable[[nn.Module], float],
    levels: Sequence[float] = LEVELS,
) -> Sensitivity:
    """Cuts one group at a time, the least important units first, from copies that share the weights.

    Args:
        network: In the mode that the judge wants; left as it is.
        groups: What can be cut.
        scores: Importance by group, [units].
        judge: How bad a network is, such as the divergence from the teacher on some hundred calibration samples.
        levels: Shares to remove; of those that come to the same number of units, one is measured.
    """
    whole = judge(network)
    found = []
    for group in groups:
        gone = sorted({min(round(level * group.units), group.units - 1) for level in levels} - {0})
        kept = [group.units - removed for removed in gone or [1]]
        found.append(group_sensitivity(network, group, scores, judge, kept, whole))
    return Sensitivity(whole, tuple(found))


@torch.no_grad()
def group_sensitivity(
    network: nn.Module,
    group: Group,
    scores: Mapping[str, Tensor],
    judge: Callable[[nn.Module], float],
    kept: Iterable[int],
    whole: float = 0.0,
) -> GroupSensitivity:
    """The same of one group, at numbers of units that stay, falling; `whole` is what the judge says of the network."""
    measured = []
    for units in kept:
        keep = best_units([group], scores, {group.name: units})
        damage = judge(cut(network, [group], keep, share=True)) - whole
        measured.append(Level((group.units - units) / group.units, damage))
    return GroupSensitivity(group.name, group.units, group.units * channels(group), tuple(measured))


def ratios(found: Sensitivity, damage: float) -> dict[str, float]:
    """For each group the largest share that can be removed with no more than this damage, by itself.

    Between levels damage is taken to grow evenly; beyond the first level that does too much, nothing is looked at.
    """
    return {group.name: _largest(group, damage) for group in found.groups}


def widths_by_sensitivity(
    found: Sensitivity, groups: Iterable[Group], sizes: Sizes, *, target: Target, share: float, round_to: int = 8
) -> Reached:
    """How many units each group keeps so that all groups do the same damage; a counterpart of `shares.widths`.

    Args:
        found: What was measured of these groups.
        groups: What can be cut.
        sizes: Predicts parameters and multiply-adds of these groups.
        target: What `share` is of.
        share: What shall be left; the nearest that can be reached is taken.
        round_to: Widths become multiples of this many channels.

    Raises:
        ModelError: The nearest is to cut nothing, or the levels measured do not go so far.
    """
    groups = tuple(groups)
    rounded = {group.name: allowed(group, round_to) for group in groups}
    # From one damage that was measured to the next: in even steps, the first would remove nearly all.
    places = sorted({0.0, *(max(level.damage, 0.0) for group in found.groups for level in group.levels)})

    def at(place: float) -> dict[str, int]:
        index = place * (len(places) - 1)
        below = min(int(index), len(places) - 2) if len(places) > 1 else 0
        above = min(below + 1, len(places) - 1)
        removed = ratios(found, places[below] + (index - below) * (places[above] - places[below])) if place else {}
        return {
            group.name: nearest(rounded[group.name], group.units * (1 - removed.get(group.name, 0.0)))
            for group in groups
        }

    return reach(at, lambda kept: left(groups, kept, sizes, target), share, target, round_to)


def _largest(group: GroupSensitivity, damage: float) -> float:
    before = Level(0.0, 0.0)
    for level in group.levels:
        if level.damage > damage:
            if damage <= before.damage:
                return before.removed
            part = (damage - before.damage) / (level.damage - before.damage)
            return before.removed + part * (level.removed - before.removed)
        # A cut that helps is no licence for the next.
        before = Level(level.removed, max(level.damage, 0.0))
    return before.removed
