"""Losses between logits that treat the labelled class apart from the others."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from compresslab.losses.divergence import soft_kl
from compresslab.losses.guards import in_fp32, same_shape
from compresslab.losses.logits import SAME_CLASSES


@in_fp32
def dkd(
    student: Tensor, teacher: Tensor, targets: Tensor, temperature: float, target_weight: float, other_weight: float
) -> Tensor:
    """Decoupled distillation: the divergence of "the labelled class or another" and that among the others.

    KD is the sum KL(target or not) + (1 - p_t) * KL(among the others), where p_t is the teacher's probability of the
    label: the surer the teacher, the less it tells about the other classes. Here the two have weights of their own:

        T^2 * (target_weight * KL(target or not) + other_weight * KL(among the others)), the mean over the batch.

    All in the log domain, so that a class that has all the probability leaves values and gradients finite.

    Source: Zhao et al., "Decoupled Knowledge Distillation", CVPR 2022 (arXiv 2203.08679), whose code takes
    target_weight 1 everywhere, T = 4 and other_weight up to 8 on CIFAR-100 (the surer the teacher, the larger), T = 1
    and 0.5 or 2 on ImageNet, and raises the term's weight linearly over the first epochs.

    Args:
        student: Logits, [batch, classes].
        teacher: Logits of the same samples and classes, [batch, classes]; no gradient flows into them.
        targets: Labels, [batch], integers below `classes`.
        temperature: T > 0, for both parts.
        target_weight: Weight of the labelled class against the others.
        other_weight: Weight of the divergence among the others; with two classes there is none.

    Returns:
        A scalar, >= 0.

    Raises:
        ValueError: The shapes differ.
    """
    same_shape(student, teacher, SAME_CLASSES)
    teacher = teacher.detach()
    log_p = _target_or_not(teacher / temperature, targets)
    log_q = _target_or_not(student / temperature, targets)
    target = F.kl_div(log_q, log_p, reduction="batchmean", log_target=True) * temperature**2
    others = soft_kl(_others(student, targets), _others(teacher, targets), temperature)
    return target_weight * target + other_weight * others


@in_fp32
def nkd(student: Tensor, teacher: Tensor, targets: Tensor, temperature: float, other_weight: float) -> Tensor:
    """Normalised distillation: the teacher's probability of the label as a soft target, and the others normalised.

        -p_t log(q_t) - other_weight * T^2 * sum over the other classes of p'_i log(q'_i), the mean over the batch,

    where p_t and q_t are teacher's and student's probability of the label at T = 1, and p', q' their softmax over the
    other classes alone, at T. Both parts are cross-entropies as in the paper, so that the least value is not 0.
    The labels' own cross-entropy, which the paper adds with weight 1, is the task's loss and not part of this.

    Source: Yang et al., "From Knowledge Distillation to Self-Knowledge Distillation: A Unified Approach with
    Normalized Loss and Customized Soft Labels", ICCV 2023 (arXiv 2303.13005), which takes T = 1 and other_weight 1.5.

    Args:
        student: Logits, [batch, classes], at least two classes.
        teacher: Logits of the same samples and classes, [batch, classes]; no gradient flows into them.
        targets: Labels, [batch], integers below `classes`.
        temperature: T > 0 of the part about the other classes.
        other_weight: Weight of that part; with two classes it is 0.

    Returns:
        A scalar, >= 0.

    Raises:
        ValueError: The shapes differ.
    """
    same_shape(student, teacher, SAME_CLASSES)
    teacher = teacher.detach()
    label = targets[:, None]
    p_target = F.softmax(teacher, dim=1).gather(1, label)
    target = -(p_target * F.log_softmax(student, dim=1).gather(1, label)).mean()
    p_others = F.softmax(_others(teacher, targets) / temperature, dim=1)
    others = F.cross_entropy(_others(student, targets) / temperature, p_others) * temperature**2
    return target + other_weight * others


def _others(logits: Tensor, targets: Tensor) -> Tensor:
    """The logits without the target's column, [batch, classes - 1]."""
    kept = torch.arange(logits.shape[1] - 1, device=logits.device)[None, :]
    return logits.gather(1, kept + (kept >= targets[:, None]))


def _target_or_not(logits: Tensor, targets: Tensor) -> Tensor:
    """Log-probabilities of the target and of all others together, [batch, 2]."""
    log_probabilities = F.log_softmax(logits, dim=1)
    target = log_probabilities.gather(1, targets[:, None])
    # log(1 - p) by subtraction would be log(0) for a target that has all the probability.
    return torch.cat([target, _others(log_probabilities, targets).logsumexp(dim=1, keepdim=True)], dim=1)
