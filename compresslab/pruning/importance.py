"""How much each unit of a group matters: plain functions from evidence and a group to one score a unit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch
from torch import Tensor, nn

from compresslab import user_code
from compresslab.digest import digest_of
from compresslab.errors import ModelError
from compresslab.pruning.evidence import READINGS, Evidence, Reading
from compresslab.pruning.groups import LAYERS, Group
from compresslab.pruning.slices import NORMALIZATIONS, Slice, slices

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Importance: TypeAlias = Callable[[Evidence, Group], Tensor]
"""From the evidence and a group to float [units], larger for what matters more."""

Name = Literal[
    "magnitude_l1", "magnitude", "bn_scale", "lamp", "fpgm", "taylor", "hessian", "activation", "random"
]  # fmt: skip


@dataclass(frozen=True)
class Criterion:
    """A way to judge importance.

    Args:
        function: Gives the scores.
        reads: What it looks at beside the network's weights.
        comparable: Whether scores of different groups can be compared as they are. Otherwise each is divided by the
            mean of its group before units of several groups compete.
    """

    function: Importance
    reads: frozenset[Reading] = frozenset()
    comparable: bool = False


def magnitude_l1(evidence: Evidence, group: Group) -> Tensor:
    """Sum of |weights| of each unit (Li et al., "Pruning Filters for Efficient ConvNets", arXiv 1608.08710)."""
    return _magnitude(evidence, group, 1)


def magnitude(evidence: Evidence, group: Group) -> Tensor:
    """Sum of squared weights of each unit, which is torch-pruning's L2: the norm orders units the same way.

    On both sides of layers, and normalizations, embeddings and bare parameters; the mean of all of these.
    """
    return _magnitude(evidence, group, 2)


def bn_scale(evidence: Evidence, group: Group) -> Tensor:
    """The absolute scale of the normalizations (Liu et al., "Network Slimming", ICCV 2017, arXiv 1708.06519).

    Raises:
        ModelError: The group has no normalization with scales, or they are all alike, as before any training.
    """
    scales = [one for one in _weights(evidence, group) if isinstance(one.layer, NORMALIZATIONS)]
    if not scales:
        raise ModelError(
            f"`bn_scale` cannot judge `{group.name}`: no normalization with a scale follows it; "
            "use `taylor` or `magnitude`"
        )
    found = torch.stack([one.of(_parameter(evidence, one)).abs().sum(1) for one in scales]).mean(0)
    if found.max() - found.min() <= 1e-6 * found.max():
        raise ModelError(
            f"`bn_scale` cannot judge `{group.name}`: the scales of `{scales[0].member.layer}` are all alike, as in a "
            "network that is not trained; train it first, or use `taylor` or `magnitude`"
        )
    return found


def lamp(evidence: Evidence, group: Group) -> Tensor:
    """Squared magnitude over that of all units that are no smaller (Lee et al., "LAMP", ICLR 2021, arXiv 2010.07611).

    Of units where the paper has single weights. The largest scores 1 in every group, so that none is ever emptied.
    """
    ordered, order = magnitude(evidence, group).sort()
    # What remains with the k-th: itself and all that come after it.
    remaining = ordered.flip(0).cumsum(0).flip(0)
    found = torch.zeros_like(ordered)
    found[order] = ordered / remaining.clamp_min(torch.finfo(ordered.dtype).tiny)
    return found


def fpgm(evidence: Evidence, group: Group) -> Tensor:
    """Distance to all other units of the group (He et al., "Filter Pruning via Geometric Median", arXiv 1811.00250).

    A unit near the geometric median says what others say. Between the weights of each side of each layer, and the
    mean of these.
    """
    found = [one.of(_parameter(evidence, one)) for one in _weights(evidence, group) if isinstance(one.layer, LAYERS)]
    return torch.stack([torch.cdist(weights, weights).sum(1) for weights in found]).mean(0)


def taylor(evidence: Evidence, group: Group) -> Tensor:
    """How much the loss changes without the unit, to first order (Molchanov et al., CVPR 2019, arXiv 1906.10771).

    Their gates, in front of the layers that read the unit, so that a unit is one thing however many layers make it;
    and absolute values of single samples, as in their first paper (ICLR 2017, arXiv 1611.06440): the mean gradient of
    a trained network is near zero and ranks units worse.
    """
    return evidence.contributions[group.name]


def hessian(evidence: Evidence, group: Group) -> Tensor:
    """How much the loss rises without the unit, to second order ("Optimal Brain Damage", LeCun et al., 1989).

    Half the sum of weight^2 x the Hessian's diagonal over all that goes with the unit; the diagonal is that of the
    empirical Fisher information.
    """
    parts = [
        one.of(_parameter(evidence, one).square() * evidence.squared_gradients[one.name]).sum(1)
        for one in slices(evidence.network, group)
    ]
    return torch.stack(parts).sum(0) / 2


def activation(evidence: Evidence, group: Group) -> Tensor:
    """Mean of |activation| of each unit, where the layers read it that follow."""
    found = [
        evidence.activations[member.layer][member.index].mean(1)
        for member in group.members
        if member.side == "in" and member.layer in evidence.activations
    ]
    return torch.stack(found).mean(0)


def random(evidence: Evidence, group: Group) -> Tensor:
    """A lot for each unit, which depends on the seed and the group's name alone: the control of all others."""
    seed = int(digest_of([evidence.seed, group.name])[:15], 16)
    return torch.rand(group.units, generator=torch.Generator().manual_seed(seed))


CRITERIA: Mapping[Name, Criterion] = {
    "magnitude_l1": Criterion(magnitude_l1),
    "magnitude": Criterion(magnitude),
    "bn_scale": Criterion(bn_scale),
    "lamp": Criterion(lamp, comparable=True),
    "fpgm": Criterion(fpgm),
    "taylor": Criterion(taylor, frozenset({"contributions"}), comparable=True),
    "hessian": Criterion(hessian, frozenset({"squared_gradients"}), comparable=True),
    "activation": Criterion(activation, frozenset({"activations"})),
    "random": Criterion(random, comparable=True),
}
"""Each way by its name in a pipeline."""


def own(reference: str) -> Criterion:
    """The user's own, `module:function`: called with `evidence` and `group`; all readings are gathered for it.

    Raises:
        BadInput: There is no such function. What it gives is looked at by `judge`.
    """
    user_code.resolve(reference)

    def call(evidence: Evidence, group: Group) -> Tensor:
        found = user_code.call(reference, {"evidence": evidence, "group": group})
        if not isinstance(found, Tensor):
            raise ModelError(
                f"{reference}: gave {type(found).__name__} for `{group.name}`; a tensor [{group.units}] is needed"
            )
        return found

    return Criterion(call, frozenset(READINGS))


@torch.no_grad()
def judge(criterion: Criterion, evidence: Evidence, groups: Iterable[Group]) -> dict[str, Tensor]:
    """The score of each unit, float32 [units] by group.

    Raises:
        ModelError: A group cannot be judged this way, or its scores are not one finite number a unit.
    """
    scores = {}
    for group in groups:
        found = criterion.function(evidence, group).detach().to("cpu", torch.float32)
        if found.shape != (group.units,):
            raise ModelError(
                f"the importance of `{group.name}` must be [{group.units}], one score a unit, but is "
                f"{list(found.shape)}"
            )
        if not found.isfinite().all():
            raise ModelError(f"the importance of `{group.name}` is not finite: its weights or gradients are broken")
        scores[group.name] = found
    return scores


def _magnitude(evidence: Evidence, group: Group, power: int) -> Tensor:
    parts = [one.of(_parameter(evidence, one)).abs().pow(power).sum(1) for one in _weights(evidence, group)]
    return torch.stack(parts).mean(0)


def _weights(evidence: Evidence, group: Group) -> Iterable[Slice]:
    """What has a size: neither biases nor the slopes of activations."""
    return (
        one
        for one in slices(evidence.network, group)
        if one.leaf != "bias" and not isinstance(one.layer, nn.PReLU)
    )  # fmt: skip


def _parameter(evidence: Evidence, one: Slice) -> Tensor:
    return evidence.network.get_parameter(one.name).detach()
