"""Losses of two towers, image and text, between a student and its teacher.

They see the batch as a whole: under data parallel training it must be gathered before.
"""

from __future__ import annotations

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


def _scores(image: Tensor, text: Tensor, scale: float | Tensor) -> Tensor:
    """Scaled cosine similarities, [batch of images, batch of texts]."""
    return scale * (direction(image) @ direction(text).T)
