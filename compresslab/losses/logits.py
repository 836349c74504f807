"""Losses between the logits of a student and those of its teacher."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from compresslab.losses.directions import centred_direction
from compresslab.losses.divergence import soft_kl
from compresslab.losses.guards import at_least, in_fp32, same_shape

SAME_CLASSES = "the teacher must answer for the same samples and the same classes, in the student's order"


def kd(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Soft targets: T^2 * KL(softmax(teacher / T) || softmax(student / T)), the mean over the batch.

    T^2 keeps the gradient's size as T grows, so that weights stay comparable. Computed in fp32 also under
    autocast: the softened probabilities of unlikely classes are below what bf16 resolves.

    Source: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015 (arXiv 1503.02531).

    Args:
        student: Logits, [batch, classes].
        teacher: Logits of the same samples and classes, [batch, classes]; no gradient flows into them.
        temperature: T > 0.

    Returns:
        A scalar, >= 0; 0 exactly when both softened distributions are equal.
    """
    log_p = F.log_softmax(teacher.detach().float() / temperature, dim=1)
    log_q = F.log_softmax(student.float() / temperature, dim=1)
    return F.kl_div(log_q, log_p, reduction="batchmean", log_target=True) * temperature**2


@in_fp32
def standardised_kd(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Soft targets of standardised logits: T^2 * KL between the softmax of z-scores divided by T.

    Each row of logits, the student's and the teacher's, is centred and divided by its own standard deviation (over
    the classes, divisor K) before T is applied, so that the student learns the order and the relative margins
    and need not copy the teacher's range. A row of equal logits has z-scores 0 and passes no gradient.

    T here is what the paper calls the base temperature: it acts on numbers of deviation 1, and not on logits. As there,
    the divergence carries T^2, and its weight is a factor in front of that. z-scores differ less than logits do, so
    that the divergence is small and its weight large: the authors' command takes T = 2 and weight 9 on CIFAR-100.
    Of two classes z-scores keep nothing but the sign.

    Source: Sun et al., "Logit Standardization in Knowledge Distillation", CVPR 2024 (arXiv 2403.01427).

    Args:
        student: Logits, [batch, classes].
        teacher: Logits of the same samples and classes, [batch, classes]; no gradient flows into them.
        temperature: T > 0.

    Returns:
        A scalar, >= 0; 0 exactly when the logits are the same up to a shift and a positive scale of each row.

    Raises:
        ValueError: The shapes differ.
    """
    same_shape(student, teacher, SAME_CLASSES)
    deviations = math.sqrt(student.shape[1])
    return soft_kl(deviations * centred_direction(student), deviations * centred_direction(teacher), temperature)


@in_fp32
def dist(student: Tensor, teacher: Tensor, temperature: float, inter_weight: float, intra_weight: float) -> Tensor:
    """Relations instead of values: T^2 times one minus Pearson's correlation, over rows and over columns.

    With probabilities softened by T: `inter` is 1 - the mean over the samples of the correlation of their class
    probabilities; `intra` is 1 - the mean over the classes of the correlation of that class's probability over
    the batch. Where all entries of a row or column are equal the correlation is taken as 0, without gradient.

    Source: Huang et al., "Knowledge Distillation from A Stronger Teacher", NeurIPS 2022 (arXiv 2205.10536), whose
    code has both weights 1 and T = 1 unless told otherwise.

    Args:
        student: Logits, [batch, classes], a batch of at least two.
        teacher: Logits of the same samples and classes, [batch, classes]; no gradient flows into them.
        temperature: T > 0.
        inter_weight: Weight of the relation between classes (rows).
        intra_weight: Weight of the relation between samples (columns).

    Returns:
        A scalar, from 0 to 2 T^2 (inter_weight + intra_weight).

    Raises:
        ValueError: The shapes differ, or the batch is of one sample, which has no relation over columns.
    """
    same_shape(student, teacher, SAME_CLASSES)
    at_least(2, student, "DIST")
    q = F.softmax(student / temperature, dim=1)
    p = F.softmax(teacher.detach() / temperature, dim=1)
    inter, intra = (1 - (centred_direction(q, dim) * centred_direction(p, dim)).sum(dim).mean() for dim in (1, 0))
    return (inter_weight * inter + intra_weight * intra) * temperature**2


@in_fp32
def hard_label(student: Tensor, teacher: Tensor) -> Tensor:
    """Hard distillation: cross-entropy to the class that the teacher decides for, the mean over the batch.

    Source: Touvron et al., "Training data-efficient image transformers & distillation through attention" (DeiT),
    ICML 2021 (arXiv 2012.12877), which weighs it and the task's cross-entropy 0.5 each.

    Args:
        student: Logits, [batch, classes].
        teacher: Logits of the same samples and classes, [batch, classes]; of equal largest ones the first counts.

    Returns:
        A scalar, > 0.

    Raises:
        ValueError: The shapes differ.
    """
    same_shape(student, teacher, SAME_CLASSES)
    return F.cross_entropy(student, teacher.detach().argmax(dim=1))
