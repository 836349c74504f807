"""Losses for numbers instead of classes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from compresslab.losses.guards import in_fp32, same_shape


@in_fp32
def huber(student: Tensor, target: Tensor, scale: float | Tensor, delta: float) -> Tensor:
    """Standardised Huber: of the error divided by the targets' deviation, the mean over the batch and the outputs.

    With e = (student - target) / scale: e^2 / 2 where |e| <= delta, else delta * (|e| - delta / 2). For the labels and
    for a teacher's predictions alike; divided by the deviation, weights and delta mean the same for every unit. Give
    both terms one scale, that of the labels, or they would not be comparable.

    Source: Huber, "Robust Estimation of a Location Parameter", Annals of Mathematical Statistics 35, 1964; for
    distillation Chen et al., "Learning Efficient Object Detection Models with Knowledge Distillation", NeurIPS 2017
    (there a teacher-bounded squared error).

    Args:
        student: Predictions in the targets' unit, [batch] or [batch, outputs].
        target: Labels or the teacher's predictions, the same shape; no gradient flows into them.
        scale: Deviation of the labels over the training split, > 0: one number, or a tensor [outputs].
        delta: Where the squared error ends and the absolute one begins, in deviations, > 0.

    Returns:
        A scalar, >= 0.

    Raises:
        ValueError: The shapes differ, or a deviation is not > 0.
    """
    same_shape(student, target, "a prediction of [batch, 1] needs targets of [batch, 1], not [batch]")
    deviation = torch.as_tensor(scale, dtype=student.dtype)
    if not bool((deviation > 0).all()):
        raise ValueError(f"`scale > 0` must hold, but got {scale}; leave out outputs that are constant in training")
    deviation = deviation.to(student.device)
    return F.huber_loss(student / deviation, target.detach() / deviation, delta=delta)
