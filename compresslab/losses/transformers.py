"""Losses between the layers of transformers, padding left out, and the mapping of one's layers to another's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from compresslab.losses.guards import in_fp32, same_shape


@in_fp32
def hidden_states(student: Sequence[Tensor], teacher: Sequence[Tensor], mask: Tensor) -> Tensor:
    """Mean squared error between hidden states: over real tokens and dimensions, the mean over pairs of layers.

    Source: Jiao et al., "TinyBERT: Distilling BERT for Natural Language Understanding", 2020 (arXiv 1909.10351), which
    takes the sum over layers; the mean keeps a weight valid when the number of layers changes.

    Args:
        student: Hidden states a layer, each [batch, tokens, width], already of the teacher's width (`projector`).
        teacher: Those of the teacher's layers that they learn from, in the same order (`uniform_mapping`); no gradient
            flows into them.
        mask: bool, [batch, tokens], True for real tokens, False for padding.

    Returns:
        A scalar, >= 0; 0 where there is no real token.

    Raises:
        ValueError: The numbers of layers or the shapes differ, or the mask is not bool of [batch, tokens].
    """
    real = _checked(student, teacher, mask, axes=3)
    return _error(student, teacher, real[:, :, None])


@in_fp32
def attention_maps(student: Sequence[Tensor], teacher: Sequence[Tensor], mask: Tensor) -> Tensor:
    """Mean squared error between attention maps: over heads and pairs of real tokens, the mean over pairs of layers.

    MSE and not KL, as in the paper, so that the maps may be scores before the softmax (what the paper found to
    learn faster; padded entries may be -inf) or probabilities (whose entries are of the order of 1 / tokens, so that
    the weight is larger).

    Source: Jiao et al., "TinyBERT: Distilling BERT for Natural Language Understanding", 2020 (arXiv 1909.10351), which
    takes the sum over layers.

    Args:
        student: Attention maps a layer, each [batch, heads, tokens (queries), tokens (keys)].
        teacher: Those of the teacher's layers that they learn from, in the same order (`uniform_mapping`); no gradient
            flows into them.
        mask: bool, [batch, tokens], True for real tokens, False for padding.

    Returns:
        A scalar, >= 0; 0 where there is no real token.

    Raises:
        ValueError: The numbers of layers or the shapes differ, or the mask is not bool of [batch, tokens].
    """
    real = _checked(student, teacher, mask, axes=4)
    return _error(student, teacher, real[:, None, :, None] & real[:, None, None, :])


def uniform_mapping(student_layers: int, teacher_layers: int) -> tuple[int, ...]:
    """The teacher's layer for each of the student's, spread evenly, the last one for the last; counted from 0.

    Where the numbers divide it is every n-th: 4 layers learn from (2, 5, 8, 11) of 12. Embeddings are not counted.

    Source: Jiao et al., "TinyBERT: Distilling BERT for Natural Language Understanding", 2020 (arXiv 1909.10351).

    Raises:
        ValueError: Not `1 <= student_layers <= teacher_layers`.
    """
    if not 1 <= student_layers <= teacher_layers:
        raise ValueError(
            f"`1 <= student_layers <= teacher_layers` must hold, but got {student_layers} and {teacher_layers}; "
            "give the student fewer layers, or name the pairs yourself"
        )
    return tuple((layer + 1) * teacher_layers // student_layers - 1 for layer in range(student_layers))


def _checked(student: Sequence[Tensor], teacher: Sequence[Tensor], mask: Tensor, axes: int) -> Tensor:
    """The mask, if everything belongs together."""
    if not student or len(student) != len(teacher):
        raise ValueError(
            f"each layer of the student needs one of the teacher, but got {len(student)} and {len(teacher)}; "
            "choose the teacher's with `uniform_mapping`"
        )
    for ours, theirs in zip(student, teacher, strict=True):
        same_shape(ours, theirs, "project hidden states with `projector`; attention maps need as many heads")
        # Both [batch, tokens, width] and [batch, heads, tokens, tokens] have the tokens last but one.
        if ours.ndim != axes or mask.dtype != torch.bool or mask.shape != (ours.shape[0], ours.shape[-2]):
            raise ValueError(
                f"a layer of {axes} axes and a bool mask of its batch and tokens are needed, but got "
                f"{list(ours.shape)} and {mask.dtype} {list(mask.shape)}; give `attention_mask.bool()`"
            )
    return mask


def _error(student: Sequence[Tensor], teacher: Sequence[Tensor], real: Tensor) -> Tensor:
    """The mean over layers of the squared error where `real`, which broadcasts to a layer's shape."""
    errors = []
    for ours, theirs in zip(student, teacher, strict=True):
        # Left out before squaring: padded scores may be -inf on both sides, and their difference not a number.
        error = torch.where(real, ours - theirs.detach(), 0.0).square()
        errors.append(error.sum() / real.expand_as(error).sum().clamp(min=1))
    return torch.stack(errors).mean()
