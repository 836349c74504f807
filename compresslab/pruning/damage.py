"""How far a cut network is from what it was, before any training: its answers, with its normalizations set anew."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

_BATCH = 256


@dataclass(frozen=True)
class Damage:
    """Judges a cut network by how its answers differ from those of the network before it was cut.

    BatchNorm's statistics are taken again from the same inputs before the answers are compared: those of the whole
    network are wrong for a cut one, and hide how well it can do (Li et al., "EagleEye", ECCV 2020, arXiv 2007.02491).

    Args:
        inputs: Real inputs, [n, ...]; some hundreds are enough. No labels are needed.
        answers: What the network before the cut gives for them, float32 [n, outputs].
        classes: Whether the answers are logits, compared by KL(before || after); otherwise by the mean squared error
            over the variance of `answers`.
    """

    inputs: Tensor
    answers: Tensor
    classes: bool

    @staticmethod
    def of(network: nn.Module, inputs: Tensor, *, classes: bool) -> Damage:
        """The judge of what is cut from this network, which is left as it is."""
        judged = _with_own_buffers(network)
        reestimate(judged, inputs)
        return Damage(inputs, _answers(judged, inputs), classes)

    def __call__(self, network: nn.Module) -> float:
        """The damage, >= 0, of a network that was cut; it may share weights with others and is left as it is."""
        judged = _with_own_buffers(network)
        reestimate(judged, self.inputs)
        found = _answers(judged, self.inputs)
        if self.classes:
            before, after = self.answers.log_softmax(1), found.log_softmax(1)
            return float(F.kl_div(after, before, reduction="batchmean", log_target=True).clamp_min(0))
        scale = self.answers.var(correction=0).clamp_min(torch.finfo(torch.float32).tiny)
        return float(F.mse_loss(found, self.answers) / scale)


@torch.no_grad()
def reestimate(network: nn.Module, inputs: Tensor) -> None:
    """Sets the statistics of every BatchNorm to those of these inputs, in place; leaves the network in eval mode."""
    norms = [layer for layer in network.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]
    network.eval()
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean of all batches
        norm.train()
    for batch in torch.split(inputs, _BATCH):
        if len(batch) > 1:
            network(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()


def _with_own_buffers(network: nn.Module) -> nn.Module:
    """A copy that shares the weights, which are only read, but not the statistics."""
    return copy.deepcopy(network, {id(parameter): parameter for parameter in network.parameters()})


@torch.inference_mode()
def _answers(network: nn.Module, inputs: Tensor) -> Tensor:
    return torch.cat([network(batch) for batch in torch.split(inputs, _BATCH)]).float()
