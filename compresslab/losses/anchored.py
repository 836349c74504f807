"""Losses of one of two towers against embeddings of the other that stay as they are: anchors."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from compresslab.losses.directions import direction
from compresslab.losses.divergence import soft_kl
from compresslab.losses.embeddings import SAME_WIDTH
from compresslab.losses.guards import in_fp32, same_shape


@in_fp32
def anchored_contrastive(
    embeddings: Tensor, groups: Tensor, anchors: Tensor, anchor_groups: Tensor, scale: float
) -> Tensor:
    """Cross-entropy of the anchors for each sample, and of the samples of the batch for each anchor that has one.

    All anchors of a sample's group are right, and its target is uniform over them; all others are wrong. The mean of
    both directions. Samples without an anchor ask for nothing, and are wrong answers to the anchors of others.

    Source: a locked tower, Zhai et al., "LiT: Zero-Shot Transfer with Locked-image text Tuning", CVPR 2022 (arXiv
    2111.07991); with several positives Yang et al., "Unified Contrastive Learning in Image-Text-Label Space", CVPR 2022
    (arXiv 2204.03610). The anchors are those of all training samples, not only of the batch.

    Args:
        embeddings: Of one tower, [batch, width].
        groups: Their numbers, int64 [batch].
        anchors: Of the other tower, [m, width]; no gradient flows into them.
        anchor_groups: int64 [m].
        scale: The logit scale, > 0, which multiplies the cosines: the inverse of a temperature.

    Returns:
        A scalar, >= 0; 0 without gradient where no sample has an anchor.

    Raises:
        ValueError: The widths differ.
    """
    scores = scale * _cosines(embeddings, anchors)
    right = groups[:, None] == anchor_groups[None, :]
    if not bool(right.any()):
        return embeddings.sum() * 0.0
    return (_cross_entropy(scores, right) + _cross_entropy(scores.T, right.T)) / 2


@in_fp32
def anchored_kl(student: Tensor, teacher: Tensor, anchors: Tensor, scale: float) -> Tensor:
    """KL between teacher's and student's distributions over the anchors for a sample, and over samples for an anchor.

    T is 1 on top of the scale, so that T^2 is too: the convention of the paper, in balance with the contrastive loss.

    Source: contrastive relational distillation (CRD) of Yang et al., "CLIP-KD: An Empirical Study of CLIP Model
    Distillation", CVPR 2024 (arXiv 2307.12732), each tower against the teacher's embeddings of the other.

    Args:
        student: Embeddings of one tower, [batch, width].
        teacher: The teacher's of the same samples, [batch, width]; no gradient flows into them.
        anchors: The teacher's embeddings of the other tower, [m, width].
        scale: The logit scale, > 0, which multiplies the cosines: the inverse of a temperature.

    Returns:
        A scalar, >= 0.

    Raises:
        ValueError: The widths differ.
    """
    ours = scale * _cosines(student, anchors)
    theirs = scale * _cosines(teacher, anchors).detach()
    same_shape(ours, theirs, "both must come from the same batch")
    return (soft_kl(ours, theirs, 1.0) + soft_kl(ours.T, theirs.T, 1.0)) / 2


def _cosines(embeddings: Tensor, anchors: Tensor) -> Tensor:
    if embeddings.shape[1:] != anchors.shape[1:]:
        raise ValueError(f"embeddings are {list(embeddings.shape)} and anchors {list(anchors.shape)}; {SAME_WIDTH}")
    return direction(embeddings) @ direction(anchors.detach().to(embeddings.device)).T


def _cross_entropy(scores: Tensor, right: Tensor) -> Tensor:
    """Of the rows that have something right, to a target that is uniform over that."""
    asks = right.any(dim=1)
    wanted = right[asks].to(scores.dtype)
    return F.cross_entropy(scores[asks], wanted / wanted.sum(dim=1, keepdim=True))


@in_fp32
def direction_mse(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared error between embeddings of length 1, over samples and dimensions: 2 (1 - cosine) / width.

    Source: feature distillation (FD) of CLIP-KD (arXiv 2307.12732) for one tower, which gives it weight 2000.

    Args:
        student: [batch, width].
        teacher: [batch, width]; no gradient flows into it.

    Raises:
        ValueError: The shapes differ.
    """
    same_shape(student, teacher, SAME_WIDTH)
    loss: Tensor = F.mse_loss(direction(student), direction(teacher.detach()))
    return loss
