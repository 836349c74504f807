"""A user's own ways to judge: a good one, and two that give something else."""

import torch


def by_number(evidence, group):
    assert evidence.gradients
    assert evidence.activations
    return torch.arange(group.units)


def a_list(evidence, group):
    return [1.0] * group.units


def of_channels(evidence, group):
    return torch.ones(group.units + 1)
