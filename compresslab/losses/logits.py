"""Losses between the logits of a student and those of its teacher."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


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
