"""Losses between intermediate features of a student and those of its teacher."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from compresslab.errors import ModelError
from compresslab.losses.directions import direction
from compresslab.losses.guards import in_fp32, same_shape


def projector(student_shape: Sequence[int], teacher_shape: Sequence[int]) -> nn.Module:
    """A learned linear map from a student's features to the width of its teacher's, for `hint`.

    A 1x1 convolution for [batch, channels, height, width], a linear layer for [batch, width] and
    [batch, tokens, width], both with bias. It is trained with the student and thrown away afterwards. Spatial sizes
    may differ: `hint` pools the larger one. The weights come from torch's global generator; seed it before.

    Source: Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015 (arXiv 1412.6550).

    Args:
        student_shape: Shape of a batch of the student's features; only its rank and width are used.
        teacher_shape: The teacher's, of the same rank.

    Raises:
        ModelError: The ranks differ or are none of these, or the numbers of tokens differ.
    """
    student, teacher = list(student_shape), list(teacher_shape)
    if len(student) != len(teacher):
        raise ModelError(
            f"the student's features have {len(student)} axes {student}, the teacher's {len(teacher)} {teacher}; name "
            "two layers of the same kind: both [batch, channels, height, width], both [batch, tokens, width], or "
            "both [batch, width]"
        )
    if len(student) == 4:
        return nn.Conv2d(student[1], teacher[1], kernel_size=1)
    if len(student) not in (2, 3):
        raise ModelError(
            f"features of shape {student} cannot be projected; name a layer whose output is "
            "[batch, channels, height, width], [batch, tokens, width] or [batch, width]"
        )
    if len(student) == 3 and student[1] != teacher[1]:
        raise ModelError(
            f"the student has {student[1]} tokens where the teacher has {teacher[1]}, so that none is known to belong "
            "to another; give both the same tokenizer or patch size, or name pooled layers of [batch, width]"
        )
    return nn.Linear(student[-1], teacher[-1])


@in_fp32
def hint(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared error between features, the mean over batch and all elements.

    Where the spatial sizes of [batch, channels, height, width] differ, each axis of the larger one is pooled
    (adaptive average) to the smaller one's size.

    Source: Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015 (arXiv 1412.6550), where it is half this sum.

    Args:
        student: Features, already of the teacher's width (`projector`): [batch, width], [batch, tokens, width] or
            [batch, channels, height, width].
        teacher: Features of the same samples, of the same shape but for height and width; no gradient flows in.

    Returns:
        A scalar, >= 0.

    Raises:
        ValueError: The shapes differ in more than height and width.
    """
    student, teacher = _one_size(student, teacher.detach())
    same_shape(student, teacher, "bring the student's features to the teacher's width with `projector` first")
    return F.mse_loss(student, teacher)


@in_fp32
def attention_transfer(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared difference of spatial attention maps, the mean over batch and positions.

    A map is the sum over channels of the squared activations, flattened and divided by its L2 length, so that student
    and teacher may differ in channels. Where sizes differ the larger map is pooled (adaptive average, of the squares,
    which cannot cancel) to the smaller. A map that is zero everywhere stays zero and passes no gradient.

    Source: Zagoruyko and Komodakis, "Paying More Attention to Attention", ICLR 2017 (arXiv 1612.03928); the mean over
    positions is that of the authors' code, where the weight is 1000 (halved) for each pair of layers.

    Args:
        student: Features, [batch, channels, height, width].
        teacher: Features of the same samples, [batch, channels, height, width]; no gradient flows into them.

    Returns:
        A scalar, >= 0; 0 exactly when the maps are equal up to a positive scale of each.

    Raises:
        ValueError: The features are not [batch, channels, height, width], or the batches differ.
    """
    if student.ndim != 4 or teacher.ndim != 4:
        raise ValueError(
            f"attention transfer needs [batch, channels, height, width], but got {list(student.shape)} and "
            f"{list(teacher.shape)}; name convolutional layers, or use `hidden_states` for transformers"
        )
    maps = _one_size(*(features.square().sum(dim=1, keepdim=True) for features in (student, teacher.detach())))
    same_shape(*maps, remedy="both must come from the same batch")
    student_map, teacher_map = (direction(each.flatten(1)) for each in maps)
    return F.mse_loss(student_map, teacher_map)


def _one_size(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Both at the smaller height and the smaller width; features without these axes as they are."""
    if student.ndim != 4 or teacher.ndim != 4 or student.shape[2:] == teacher.shape[2:]:
        return student, teacher
    size = min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3])
    return F.adaptive_avg_pool2d(student, size), F.adaptive_avg_pool2d(teacher, size)
