"""Losses between the relations of samples within a batch, so that student and teacher may differ in width.

They see the batch as a whole: under data parallel training it must be gathered before, or relations across processes
are lost.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from compresslab.losses.directions import direction
from compresslab.losses.divergence import soft_kl
from compresslab.losses.guards import at_least, in_fp32


@in_fp32
def rkd_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Relational distillation by distance: Huber (delta 1) between the distances of all pairs, the mean over pairs.

    Distances are Euclidean, divided by their mean over the batch, the student's and the teacher's each by its own.
    Equal samples are at distance 0 and pass no gradient to each other; if all are equal all distances are 0.

    Source: Park et al., "Relational Knowledge Distillation", CVPR 2019 (arXiv 1904.05068), where embeddings take
    weight 1 for distances and 2 for angles, and classifiers 25 and 50.

    Args:
        student: Embeddings, [batch, width], a batch of at least two.
        teacher: Embeddings of the same samples, [batch, any width]; no gradient flows into them.

    Returns:
        A scalar, >= 0; 0 when the student's are the teacher's up to rotation, shift and scale.

    Raises:
        ValueError: Not two axes, another number of samples, or a batch of one, which has no pairs.
    """
    _same_samples(student, teacher)
    at_least(2, student, "RKD's distance")
    return F.smooth_l1_loss(_distances(student), _distances(teacher.detach()))


@in_fp32
def rkd_angle(student: Tensor, teacher: Tensor) -> Tensor:
    """Relational distillation by angle: Huber (delta 1) between cosines of the angles of all triplets, their mean.

    The angle at sample j of a triplet (i, j, k) of different samples is that between i - j and k - j. Where two
    of them are equal there is no angle: its cosine is taken as 0, without gradient through the pair. The memory is
    batch^3 + batch^2 * width numbers for each of student and teacher: 8 MB + 4 MB in fp32 at batch 128, width 64.

    Source: Park et al., "Relational Knowledge Distillation", CVPR 2019 (arXiv 1904.05068).

    Args:
        student: Embeddings, [batch, width], a batch of at least three.
        teacher: Embeddings of the same samples, [batch, any width]; no gradient flows into them.

    Returns:
        A scalar, >= 0; 0 when the student's are the teacher's up to rotation, shift and scale.

    Raises:
        ValueError: Not two axes, another number of samples, or a batch of less than three, which has no triplets.
    """
    _same_samples(student, teacher)
    at_least(3, student, "RKD's angle")
    batch = len(student)
    error = F.smooth_l1_loss(_cosines(student), _cosines(teacher.detach()), reduction="none")
    # i = k is no triplet; where i or k is j both cosines are 0, and so is their error.
    triplet = ~torch.eye(batch, dtype=torch.bool, device=error.device)
    return (error * triplet).sum() / (batch * (batch - 1) * (batch - 2))


@in_fp32
def similarity_kl(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Listwise distillation of similarities: T^2 * KL between each sample's softmax over the others, their mean.

    Row i is the softmax of the cosine similarities of sample i with the batch's other samples, divided by T; the sample
    itself is left out, because its similarity of 1 would take most of the probability at a small T. Cosines lie
    within -1..1, so that T is well below 1 (0.02 to 0.1); as the gradient to the cosines is T * (q - p), a term of
    small T asks for a weight of the order of 1 / T.

    Source: the probabilities of neighbours of Passalis and Tefas, "Learning Deep Representations with Probabilistic
    Knowledge Transfer", ECCV 2018 (arXiv 1803.10837), with a softmax at a temperature for the kernel as in Fang et
    al., "SEED: Self-supervised Distillation for Visual Representation", ICLR 2021 (arXiv 2101.04731).

    Args:
        student: Embeddings, [batch, width], a batch of at least three.
        teacher: Embeddings of the same samples, [batch, any width]; no gradient flows into them.
        temperature: T > 0.

    Returns:
        A scalar, >= 0.

    Raises:
        ValueError: Not two axes, another number of samples, or a batch of less than three: with one other sample
            every softmax is 1.
    """
    _same_samples(student, teacher)
    at_least(3, student, "similarity KL")
    return soft_kl(_similarities(student), _similarities(teacher.detach()), temperature)


def _distances(embeddings: Tensor) -> Tensor:
    """Distances of all pairs, [batch * (batch - 1) / 2], of mean 1 unless all are 0."""
    distances = F.pdist(embeddings)
    mean = distances.mean()
    return distances / torch.where(mean > 0, mean, 1.0)


def _cosines(embeddings: Tensor) -> Tensor:
    """Cosines of angles, [j, i, k] at j between i and k."""
    towards = direction(embeddings[None, :, :] - embeddings[:, None, :])
    return towards @ towards.transpose(1, 2)


def _similarities(embeddings: Tensor) -> Tensor:
    """Cosine similarities of each sample with the others, [batch, batch - 1]."""
    unit = direction(embeddings)
    batch = len(unit)
    # Without its first entry, the flat matrix has the diagonal as the last of every batch + 1 entries.
    return (unit @ unit.T).flatten()[1:].view(batch - 1, batch + 1)[:, :-1].reshape(batch, batch - 1)


def _same_samples(student: Tensor, teacher: Tensor) -> None:
    if student.ndim != 2 or teacher.ndim != 2 or len(student) != len(teacher):
        raise ValueError(
            f"relations need [batch, width] of the same samples, but got {list(student.shape)} and "
            f"{list(teacher.shape)}; flatten or pool the features first"
        )
