"""The divergence of softened distributions, which most losses between a student and a teacher come down to."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def soft_kl(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 * KL(softmax(teacher / T) || softmax(student / T)) along the last axis, the mean over the rows.

    Args:
        student: Scores, [rows, choices].
        teacher: Scores of the same, [rows, choices]; no gradient flows into them.
        temperature: T > 0.
    """
    log_p = F.log_softmax(teacher.detach() / temperature, dim=-1)
    log_q = F.log_softmax(student / temperature, dim=-1)
    return F.kl_div(log_q, log_p, reduction="batchmean", log_target=True) * temperature**2
