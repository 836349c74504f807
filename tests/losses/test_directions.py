from __future__ import annotations

import pytest
import torch

from compresslab.losses.directions import centred_direction, direction

VECTORS = torch.tensor([[3.0, 4.0, 0.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])


def test_direction_has_length_one_and_zero_stays_zero() -> None:
    third = 1 / 3**0.5
    expected = torch.tensor([[0.6, 0.8, 0.0], [0.0, 0.0, 0.0], [third, third, third]])
    torch.testing.assert_close(direction(VECTORS), expected)
    torch.testing.assert_close(direction(VECTORS.T, dim=0), expected.T)


def test_a_vector_without_a_direction_passes_no_gradient() -> None:
    """Division by a length plus epsilon would pass 1 / epsilon, and by the length alone NaN."""
    vectors = VECTORS.clone().requires_grad_()
    (direction(vectors) * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert vectors.grad is not None
    assert vectors.grad[1].tolist() == [0.0, 0.0, 0.0]
    assert vectors.grad[0].abs().sum() > 0
    assert vectors.grad.isfinite().all()


def test_product_of_centred_directions_is_the_correlation() -> None:
    one, other = torch.randn(2, 4, 9, dtype=torch.float64)
    expected = [torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(one, other, strict=True)]
    torch.testing.assert_close((centred_direction(one) * centred_direction(other)).sum(1), torch.stack(expected))


@pytest.mark.parametrize("value", [0.0, 1 / 3, 1e4 / 3, -1e-6 / 3, 1e30 / 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("entries", [3, 7, 100, 1000])
def test_equal_entries_have_no_direction(value: float, dtype: torch.dtype, entries: int) -> None:
    """The mean of equal numbers differs from them by rounding: what is left must not be blown up to length 1."""
    vectors = torch.full((2, entries), value, dtype=dtype, requires_grad=True)
    centred = centred_direction(vectors)
    assert not centred.any()
    (centred * torch.arange(entries)).sum().backward()
    assert vectors.grad is not None
    assert not vectors.grad.any()


def test_a_small_difference_on_a_large_level_is_a_direction() -> None:
    """The threshold for rounding must not swallow logits that differ in the third decimal at a level of 100."""
    vectors = torch.full((1, 10), 100.0)
    vectors[0, 0] += 0.01
    torch.testing.assert_close(centred_direction(vectors)[0, 0].item(), 0.9**0.5, rtol=1e-3, atol=0)
