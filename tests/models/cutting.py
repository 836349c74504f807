"""Cuts networks by hand, as pruning does: weights sliced, attributes set, blocks gone."""

import torch
from torch import nn


def keep_outputs(layer, kept):
    layer.weight = nn.Parameter(layer.weight.detach()[kept].clone())
    if getattr(layer, "bias", None) is not None:
        layer.bias = nn.Parameter(layer.bias.detach()[kept].clone())
    if isinstance(layer, nn.Linear):
        layer.out_features = len(layer.weight)
    else:
        layer.out_channels = len(layer.weight)


def keep_inputs(layer, kept):
    layer.weight = nn.Parameter(layer.weight.detach()[:, kept].clone())
    if isinstance(layer, nn.Linear):
        layer.in_features = layer.weight.shape[1]
    else:
        layer.in_channels = layer.weight.shape[1]


def keep_norm(norm, kept):
    norm.weight = nn.Parameter(norm.weight.detach()[kept].clone())
    norm.bias = nn.Parameter(norm.bias.detach()[kept].clone())
    if isinstance(norm, nn.LayerNorm):
        norm.normalized_shape = (len(norm.weight),)
    else:
        norm.running_mean, norm.running_var = norm.running_mean[kept].clone(), norm.running_var[kept].clone()
        norm.num_features = len(norm.weight)


def keep_columns(owner, name, kept):
    """Of a parameter whose last axis is the hidden width."""
    setattr(owner, name, nn.Parameter(getattr(owner, name).detach()[..., kept].clone()))


def head_rows(heads, width):
    return torch.tensor([head * width + column for head in heads for column in range(width)])


def settle(module):
    """Every parameter and statistic gets a value of its own: constants would hide a tensor that was not loaded."""
    generator = torch.Generator().manual_seed(7)
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            noise = torch.rand(tensor.shape, generator=generator) * 0.5
            tensor.copy_(noise + 0.5 if "var" in name or tensor.dim() == 1 else noise - 0.25)
    return module.eval()
