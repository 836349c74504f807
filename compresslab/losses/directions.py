"""Vectors divided by their length, safe where there is none.

Correlations, z-scores, angles and cosines all divide by a length. A vector of no length (equal logits, a sample
twice in a batch, a dead feature map) has no direction: it becomes zero and passes no gradient. A small epsilon in
the denominator instead would pass a gradient of 1 / epsilon, which ends a training.
"""

from __future__ import annotations

import torch
from torch import Tensor


def direction(vectors: Tensor, dim: int = -1) -> Tensor:
    """`vectors` at length 1 along `dim`; zero, with zero gradient, where the length is zero."""
    return _divided(vectors, torch.zeros((), dtype=vectors.dtype, device=vectors.device), dim)


def centred_direction(vectors: Tensor, dim: int = -1) -> Tensor:
    """`vectors` minus their mean along `dim`, at length 1: the product of two is Pearson's correlation.

    Zero, with zero gradient, where all entries are equal up to rounding.
    """
    # The mean of equal numbers is off by their rounding, which must not be taken for a direction.
    noise = 4 * torch.finfo(vectors.dtype).eps * torch.linalg.vector_norm(vectors.detach(), dim=dim, keepdim=True)
    return _divided(vectors - vectors.mean(dim=dim, keepdim=True), noise, dim)


def _divided(vectors: Tensor, negligible: Tensor, dim: int) -> Tensor:
    length = torch.linalg.vector_norm(vectors, dim=dim, keepdim=True)
    has_one = length > negligible
    # Two `where`: with one, the gradient of the branch not taken would be 0 / 0.
    return torch.where(has_one, vectors / torch.where(has_one, length, 1.0), 0.0)
