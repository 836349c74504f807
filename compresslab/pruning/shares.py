"""How many units each group keeps, so that a share of channels, parameters or multiply-adds is left."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from math import ceil, gcd
from typing import TYPE_CHECKING, Literal

import torch

from compresslab.errors import ModelError
from compresslab.pruning.slices import part

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from torch import Tensor, nn

    from compresslab.pruning.counting import Sizes
    from compresslab.pruning.groups import Group

Scope = Literal["local", "global", "isomorphic"]
Target = Literal["channels", "parameters", "macs"]

_MOST_OF_ONE_GROUP = 0.9
_HALVINGS = 40  # of a share; finer than one unit of any network


@dataclass(frozen=True)
class Reached:
    """Widths, and the share that they leave.

    Args:
        widths: Units that each group keeps.
        share: What is left of the target's quantity; the nearest to what was asked for.
    """

    widths: Mapping[str, int]
    share: float


def channels(group: Group) -> int:
    """How many channels a unit has: of the layer of the group's name, or the width of a head."""
    return group.members[-1].each if group.kind == "heads" else group.members[0].each


def allowed(group: Group, round_to: int) -> tuple[int, ...]:
    """The numbers of units that a group may be cut to, ascending; the last is the whole group.

    Widths in channels are multiples of `round_to`, and heads are cut by ones. A group with no more channels than
    `round_to` stays whole; one whose width is no multiple has that width and the multiples below it.
    """
    each = channels(group)
    step = 1 if group.kind == "heads" else round_to // gcd(round_to, each)
    return (*range(step, group.units, step), group.units)


def nearest(wide: Sequence[int], units: float) -> int:
    """The one of these ascending widths that is nearest to so many units; the wider of two."""
    return min(reversed(wide), key=lambda width: abs(width - units))


def widths(
    network: nn.Module,
    groups: Iterable[Group],
    scores: Mapping[str, Tensor],
    sizes: Sizes,
    *,
    target: Target,
    share: float,
    scope: Scope = "global",
    round_to: int = 8,
    comparable: bool = False,
) -> Reached:
    """How many units each group keeps; which ones, `best_units` says.

    Args:
        network: That the groups were found in.
        groups: What can be cut.
        scores: Importance by group, [units].
        sizes: Predicts parameters and multiply-adds of these groups.
        target: What `share` is of.
        share: What shall be left, 0 < share < 1. As widths are rounded, the nearest that can be reached is taken.
        scope: `local`: every group keeps the same share; `global`: the units of all groups compete, and none loses
            more than nine tenths; `isomorphic`: units compete with those of groups of the same structure, and each
            structure keeps the same share (Fang et al., ECCV 2024, arXiv 2407.04616).
        round_to: Widths become multiples of this many channels, see `allowed`.
        comparable: Whether scores of different groups are on one scale, `Criterion.comparable`; otherwise each is
            divided by the mean of its group, as in torch-pruning.

    Raises:
        ModelError: The nearest is to cut nothing, or no widths leave so little.
    """
    groups = tuple(groups)
    ranks = _ranks(network, groups, scores, scope, comparable)
    rounded = {group.name: allowed(group, round_to) for group in groups}
    least = {
        group.name: 1 if scope == "local" else ceil((1 - _MOST_OF_ONE_GROUP) * group.units - 1e-9) for group in groups
    }

    def at(removed: float) -> dict[str, int]:
        found = {}
        for group in groups:
            staying = group.units - int((ranks[group.name] <= removed).sum())
            wide = [width for width in rounded[group.name] if width >= least[group.name]]
            found[group.name] = nearest(wide, staying)
        return found

    return reach(at, lambda kept: left(groups, kept, sizes, target), share, target, round_to)


def reach(
    at: Callable[[float], Mapping[str, int]],
    share_left: Callable[[Mapping[str, int]], float],
    share: float,
    target: str,
    round_to: int,
) -> Reached:
    """The widths, of a family from cutting nothing (0) to cutting most (1), that leave the share nearest to this one.

    Args:
        at: The widths at a place in the family, none of them wider at a later place.
        share_left: What widths leave, such as of parameters.
        share: What shall be left, 0 < share < 1.
        target: What it is a share of, for messages.
        round_to: What widths are rounded to, for messages.

    Raises:
        ModelError: The nearest is to cut nothing, or no widths leave so little.
    """
    most = share_left(at(1))
    if share < most:
        raise ModelError(
            f"`{target}: {share:g}` cannot be reached: {most:.3g} is the least that can be left; ask for {most:.3g} "
            f"or more, lower `round_to` ({round_to}), or start from a smaller network"
        )
    low, high = 0.0, 1.0  # leave more than the share, and no more
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if share_left(at(middle)) > share:
            low = middle
        else:
            high = middle
    before, after = (Reached(at(place), share_left(at(place))) for place in (low, high))
    if before.share >= 1 > share and abs(before.share - share) < abs(after.share - share):
        raise ModelError(
            f"`{target}: {share:g}` removes nothing: widths are multiples of {round_to}, and the nearest share that "
            f"can be left is {after.share:.3g}; ask for that, or lower `round_to`"
        )
    return before if abs(before.share - share) < abs(after.share - share) else after


def left(groups: Iterable[Group], kept: Mapping[str, int], sizes: Sizes, target: Target) -> float:
    """What these widths leave, as a share of the whole network: of the groups' channels, or of what it counts."""
    if target == "channels":
        every = [
            (kept.get(group.name, group.units) * channels(group), group.units * channels(group)) for group in groups
        ]
        return sum(some for some, _ in every) / sum(whole for _, whole in every)
    found = sizes.at(kept)
    if target == "parameters":
        return found.parameters / sizes.whole.parameters
    return found.macs / sizes.whole.macs


def best_units(
    groups: Iterable[Group], scores: Mapping[str, Tensor], kept: Mapping[str, int]
) -> dict[str, tuple[int, ...]]:
    """The most important units of each group, in their order in the network: what `cut` is told to keep."""
    found = {}
    for group in groups:
        order = torch.argsort(scores[group.name], descending=True, stable=True)
        found[group.name] = tuple(sorted(order[: kept.get(group.name, group.units)].tolist()))
    return found


def schedule(share: float, steps: int) -> tuple[float, ...]:
    """What is left after each of several steps: each leaves the same share of what the step before it left.

    Of the network before the first step; a step that starts from what was reached before has to leave `schedule[i]`
    divided by that of it.

    Args:
        share: What is left in the end, 0 < share < 1.
        steps: How many there are, with a recovery after each; 1 is one-shot.
    """
    return tuple(share ** (step / steps) for step in range(1, steps + 1))


def structure(network: nn.Module, group: Group) -> tuple[tuple[str, str], ...]:
    """What makes groups alike: the types of their members, and which side of each, in order."""
    return tuple((type(part(network, member.layer)).__name__, member.side) for member in group.members)


def _ranks(
    network: nn.Module, groups: tuple[Group, ...], scores: Mapping[str, Tensor], scope: Scope, comparable: bool
) -> dict[str, Tensor]:
    """For each unit, which share of its competitors' channels has gone once it is gone, float64 [units] in (0, 1]."""
    leagues: defaultdict[object, list[Group]] = defaultdict(list)
    for group in groups:
        leagues[_league(network, group, scope)].append(group)
    ranks: dict[str, Tensor] = {}
    for league in leagues.values():
        every = [scores[group.name].double() for group in league]
        if not comparable:
            # A group of zeros stays one of zeros.
            every = [one / one.mean().clamp_min(torch.finfo(one.dtype).tiny) for one in every]
        sizes = torch.cat([torch.full((group.units,), float(channels(group)), dtype=torch.float64) for group in league])
        order = torch.argsort(torch.cat(every), stable=True)
        gone = torch.empty_like(sizes)
        gone[order] = sizes[order].cumsum(0) / sizes.sum()  # whole numbers, so that the last is 1
        found = torch.split(gone, [group.units for group in league])
        ranks |= {group.name: one for group, one in zip(league, found, strict=True)}
    return ranks


def _league(network: nn.Module, group: Group, scope: Scope) -> object:
    if scope == "global":
        return None
    return group.name if scope == "local" else structure(network, group)
