from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from compresslab.errors import ModelError
from compresslab.losses import attention_transfer, hint, projector

RANDOM = torch.Generator().manual_seed(11)


def features(*shape: int) -> Tensor:
    return torch.randn(shape, generator=RANDOM, dtype=torch.float64)


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [
        ((4, 8, 6, 6), (4, 16, 6, 6), nn.Conv2d),
        ((4, 8, 6, 6), (4, 16, 3, 3), nn.Conv2d),
        ((4, 10, 8), (4, 10, 16), nn.Linear),
        ((4, 8), (4, 16), nn.Linear),
    ],
)
def test_a_projector_makes_a_hint_possible(
    student: tuple[int, ...], teacher: tuple[int, ...], expected: type[nn.Module]
) -> None:
    made = projector(student, teacher)
    assert isinstance(made, expected)
    # weights and biases of one linear map of 8 to 16, whatever the kind
    assert sum(parameter.numel() for parameter in made.parameters()) == 8 * 16 + 16
    loss = hint(made(torch.randn(student)), torch.randn(teacher))
    loss.backward()
    assert all(parameter.grad is not None for parameter in made.parameters())


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        ((4, 8, 6, 6), (4, 16), r"have 4 axes \[4, 8, 6, 6\], the teacher's 2 \[4, 16\]; name two layers of the same"),
        ((4, 8, 2, 6, 6), (4, 8, 2, 6, 6), r"of shape \[4, 8, 2, 6, 6\] cannot be projected; name a layer whose"),
        ((4, 10, 8), (4, 12, 8), "has 10 tokens where the teacher has 12, .*; give both the same tokenizer or patch"),
        ((4,), (4,), r"of shape \[4\] cannot be projected"),
    ],
)
def test_features_that_no_projector_joins(student: tuple[int, ...], teacher: tuple[int, ...], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        projector(student, teacher)


def test_hint_by_hand() -> None:
    student, teacher = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[1.0, 0.0], [3.0, 3.0]])
    assert hint(student, teacher).item() == pytest.approx((4 + 1) / 4)


def test_hint_pools_the_larger_of_two_sizes_each_axis_by_itself() -> None:
    """The student is higher, the teacher wider: both are brought to 2 x 3."""
    student, teacher = features(2, 3, 4, 3), features(2, 3, 2, 9)
    pooled_student = student.numpy().reshape(2, 3, 2, 2, 3).mean(axis=3)
    pooled_teacher = teacher.numpy().reshape(2, 3, 2, 3, 3).mean(axis=4)
    expected = np.square(pooled_student - pooled_teacher).mean()
    assert hint(student, teacher).item() == pytest.approx(expected, rel=1e-10)
    assert hint(teacher, student).item() == pytest.approx(expected, rel=1e-10)


def test_hint_wants_one_width() -> None:
    with pytest.raises(ValueError, match=r"but got \[2, 3\] and \[2, 4\]; bring the student's features .* `projector`"):
        hint(features(2, 3), features(2, 4))
    with pytest.raises(ValueError, match=r"but got \[2, 1, 4, 4\] and \[2, 3, 4, 4\]"):
        hint(features(2, 1, 4, 4), features(2, 3, 4, 4))


def attention(maps: np.ndarray) -> np.ndarray:
    """[batch, positions] of length 1, from maps [batch, height, width]."""
    flat = maps.reshape(len(maps), -1)
    return np.stack([row / np.sqrt((row**2).sum()) for row in flat])


def test_attention_transfer_by_definition() -> None:
    student, teacher = features(3, 2, 4, 5), features(3, 7, 4, 5)
    maps = [attention((x.numpy() ** 2).sum(axis=1)) for x in (student, teacher)]
    expected = ((maps[0] - maps[1]) ** 2).sum() / (3 * 4 * 5)
    assert attention_transfer(student, teacher).item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("swapped", [False, True])
def test_attention_transfer_pools_the_larger_map_after_squaring(swapped: bool) -> None:
    """Pooling the features instead would let positive and negative activations cancel."""
    large, small = features(3, 2, 4, 6), features(3, 7, 2, 3)
    pooled = (large.numpy() ** 2).sum(axis=1).reshape(3, 2, 2, 3, 2).mean(axis=(2, 4))
    maps = attention(pooled), attention((small.numpy() ** 2).sum(axis=1))
    expected = ((maps[0] - maps[1]) ** 2).mean()
    pair = (small, large) if swapped else (large, small)
    assert attention_transfer(*pair).item() == pytest.approx(expected, rel=1e-10)


def test_attention_transfer_ignores_scale_and_the_order_of_channels() -> None:
    student = features(3, 2, 4, 5)
    assert attention_transfer(-7 * student[:, [1, 0]], student).item() == pytest.approx(0, abs=1e-12)


def test_attention_transfer_of_dead_features() -> None:
    """A layer of zeros (after ReLU) has no map: no NaN, and no gradient through it."""
    student = torch.zeros(2, 3, 4, 4, requires_grad=True)
    loss = attention_transfer(student, features(2, 3, 4, 4).float())
    loss.backward()
    assert loss.item() == pytest.approx(1 / 16)
    assert student.grad is not None
    assert not student.grad.any()


def test_attention_transfer_wants_maps_of_one_batch() -> None:
    with pytest.raises(ValueError, match=r"needs \[batch, channels, height, width\], but got \[2, 3\] and"):
        attention_transfer(features(2, 3), features(2, 3, 4, 4))
    with pytest.raises(ValueError, match=r"must have the same shape.*; both must come from the same batch"):
        attention_transfer(features(1, 3, 4, 4), features(2, 3, 4, 4))
