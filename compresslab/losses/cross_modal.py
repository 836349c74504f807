"""Losses of two towers, image and text, between a student and its teacher; and the task loss of such a pair.

They see the batch as a whole: under data parallel training it must be gathered before.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from compresslab.losses.anchored import direction_mse
from compresslab.losses.directions import direction
from compresslab.losses.divergence import soft_kl
from compresslab.losses.guards import at_least, in_fp32, same_shape

SAME_PAIRS = ("row i of both must be one pair", "images and texts")


@in_fp32
def feature_mse(student_image: Tensor, student_text: Tensor, teacher_image: Tensor, teacher_text: Tensor) -> Tensor:
    """Mean squared error between embeddings of length 1, over samples and dimensions: images plus texts.

    All embeddings are brought to length 1 first, because only directions count in such a space. The means over
    dimensions are small: 2 (1 - cosine) / width for each tower, so that the weight is large.

    Source: feature distillation (FD) of Yang et al., "CLIP-KD: An Empirical Study of CLIP Model Distillation",
    CVPR 2024 (arXiv 2307.12732), which gives it weight 2000.

    Args:
        student_image: Embeddings of the images, [batch, width], already of the teacher's width.
        student_text: Embeddings of the texts, [batch, width].
        teacher_image: The teacher's, [batch, width]; no gradient flows into them.
        teacher_text: The teacher's, [batch, width]; no gradient flows into them.

    Returns:
        A scalar, 0 to 8 / width.

    Raises:
        ValueError: The shapes of a student and its teacher differ.
    """
    return direction_mse(student_image, teacher_image) + direction_mse(student_text, teacher_text)


@in_fp32
def contrastive_kl(
    student_image: Tensor,
    student_text: Tensor,
    teacher_image: Tensor,
    teacher_text: Tensor,
    student_scale: float | Tensor,
    teacher_scale: float | Tensor,
    temperature: float = 1.0,
) -> Tensor:
    """T^2 * KL between teacher's and student's distributions of texts for an image and of images for a text.

    The logits are cosine similarities between the towers times the network's own logit scale (CLIP's is up to 100,
    the inverse of its learned temperature), divided by T. The mean of both directions. T = 1 is the paper's convention:
    there T^2 is 1, and the gradient is in balance with the contrastive task loss, which uses the same scale.

    Source: contrastive relational distillation (CRD) of Yang et al., "CLIP-KD: An Empirical Study of CLIP Model
    Distillation", CVPR 2024 (arXiv 2307.12732), which gives it weight 1.

    Args:
        student_image: Embeddings of the images, [batch, width], a batch of at least two.
        student_text: Embeddings of their texts, [batch, width].
        teacher_image: The teacher's, [batch, any width]; no gradient flows into them.
        teacher_text: The teacher's, [batch, the same width]; no gradient flows into them.
        student_scale: The student's logit scale, > 0; a tensor where it is learned.
        teacher_scale: The teacher's logit scale, > 0; no gradient flows into it.
        temperature: T > 0, on top of the scales.

    Returns:
        A scalar, >= 0.

    Raises:
        ValueError: Images and texts are not pairs, the batches differ, or a batch of one, which has no choice.
    """
    same_shape(student_image, student_text, *SAME_PAIRS)
    same_shape(teacher_image, teacher_text, *SAME_PAIRS)
    at_least(2, student_image, "contrastive KL")
    student = _scores(student_image, student_text, student_scale)
    teacher = _scores(teacher_image, teacher_text, teacher_scale).detach()
    same_shape(student, teacher, "both must come from the same batch")
    return (soft_kl(student, teacher, temperature) + soft_kl(student.T, teacher.T, temperature)) / 2


@in_fp32
def contrastive(image: Tensor, text: Tensor, scale: float | Tensor, positives: Tensor | None = None) -> Tensor:
    """The in-batch contrastive task loss: cross-entropy of texts for each image and of images for each text, halved.

    Several texts may be right for an image and several images for a text (duplicates, captions of one photograph): the
    target is then uniform over them, instead of all but one being pushed away.

    Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (CLIP), ICML 2021
    (arXiv 2103.00020); with several positives Yang et al., "Unified Contrastive Learning in Image-Text-Label Space",
    CVPR 2022 (arXiv 2204.03610).

    Args:
        image: Embeddings of the images, [batch, width], a batch of at least two.
        text: Embeddings of their texts, [batch, width].
        scale: The logit scale, > 0, which multiplies the cosine similarities; a tensor where it is learned.
        positives: bool, [batch of images, batch of texts], True where they belong together; the pair of a row
            always does. None: that pair alone.

    Returns:
        A scalar, >= 0.

    Raises:
        ValueError: Images and texts are not pairs, the mask is not bool of [batch, batch], or a batch of one, which has
            no negatives.
    """
    same_shape(image, text, *SAME_PAIRS)
    at_least(2, image, "the contrastive loss")
    scores = _scores(image, text, scale)
    right = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    if positives is not None:
        if positives.dtype != torch.bool or positives.shape != scores.shape:
            raise ValueError(
                f"positives must be bool of shape {list(scores.shape)}, but got {positives.dtype} of shape "
                f"{list(positives.shape)}; give True where image (row) and text (column) belong together"
            )
        right = right | positives
    target = right.to(scores.dtype)
    images = F.cross_entropy(scores, target / target.sum(dim=1, keepdim=True))
    texts = F.cross_entropy(scores.T, target.T / target.T.sum(dim=1, keepdim=True))
    return (images + texts) / 2


def _scores(image: Tensor, text: Tensor, scale: float | Tensor) -> Tensor:
    """Scaled cosine similarities, [batch of images, batch of texts]."""
    return scale * (direction(image) @ direction(text).T)
