"""The MLPs of a student's layers made narrower: what goes is made up for by what stays."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from compresslab.errors import ModelError
from compresslab.pruning import Group, Member, cut
from compresslab.students.layers import mlps
from compresslab.students.seeing import moments_of

if TYPE_CHECKING:
    from compresslab.candidate import TorchModel
    from compresslab.students.seeing import Examples

# Of the mean variance of a unit: what the solution may not fit, as noise of the examples.
_RIDGE = 1e-3


@torch.no_grad()
def narrow_mlps(model: TorchModel, units: int, examples: Examples) -> TorchModel:
    """The network whose MLPs have so many inner units.

    A unit matters by the variance of its part in the MLP's output, var(a) |w|^2, as a constant part can go into the
    bias. What the units that go would have added is then predicted, by least squares over the examples, from those
    that stay, and added to their weights.

    Args:
        model: Left as it is.
        units: What stays in each layer.
        examples: What the network reads.

    Raises:
        ModelError: A layer has fewer units.
    """
    groups, keep = [], {}
    for mlp in mlps(model.module):
        width = _linear(model.module, mlp.narrows).in_features
        if units > width:
            raise ModelError(f"`ffn` is {units}, but the teacher's MLPs have {width} units; give at most that")
        groups.append(_group(mlp.widens, mlp.narrows, width))
    seen = moments_of(model.module, [group.members[1].layer for group in groups], examples)
    solved = {}
    for group in groups:
        narrows = group.members[1].layer
        weight, bias = _linear(model.module, narrows).weight, _linear(model.module, narrows).bias
        mean, covariance = seen[narrows]
        scores = covariance.diagonal() * weight.double().square().sum(0)
        staying = scores.argsort(descending=True, stable=True)[:units].sort().values
        keep[group.name] = staying.tolist()
        solved[narrows] = _made_up(weight.double(), None if bias is None else bias.double(), mean, covariance, staying)
    module = cut(model.module, groups, keep)
    for name, (made, constant) in solved.items():
        _linear(module, name).weight.copy_(made)
        if constant is not None:
            _linear(module, name).bias.copy_(constant)
    return replace(model, module=module)


def _group(widens: str, narrows: str, units: int) -> Group:
    index = torch.arange(units)[:, None]
    return Group(widens, "channels", units, (Member(widens, "out", index), Member(narrows, "in", index)))


def _made_up(
    weight: Tensor, bias: Tensor | None, mean: Tensor, covariance: Tensor, staying: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Weight [out, staying] and bias that give the whole output as well as they can."""
    gone = torch.ones(len(mean), dtype=torch.bool)
    gone[staying] = False
    if not gone.any():
        return weight[:, staying], bias
    inner = covariance[staying][:, staying]
    ridge = _RIDGE * inner.diagonal().mean() * torch.eye(len(staying), dtype=inner.dtype)
    # [gone, staying]: each unit that goes, predicted from those that stay.
    predicted = torch.linalg.solve(inner + ridge, covariance[staying][:, gone]).T
    made = weight[:, staying] + weight[:, gone] @ predicted
    if bias is not None:
        bias = bias + weight[:, gone] @ (mean[gone] - predicted @ mean[staying])
    return made, bias


def _linear(module: nn.Module, name: str) -> nn.Linear:
    found = module.get_submodule(name)
    assert isinstance(found, nn.Linear)
    return found
