from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import huber as scipy_huber

from compresslab.losses import huber

RANDOM = torch.Generator().manual_seed(31)
STUDENT, TARGET = (4 * torch.randn(50, 2, generator=RANDOM, dtype=torch.float64) for _ in range(2))


@pytest.mark.parametrize("delta", [0.1, 1.0, 5.0])
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_huber_by_scipy(delta: float, scale: float) -> None:
    """Catches delta in the targets' unit instead of deviations, and Huber divided by delta (smooth L1)."""
    expected = scipy_huber(delta, (STUDENT - TARGET).numpy() / scale).mean()
    assert huber(STUDENT, TARGET, scale, delta).item() == pytest.approx(expected, rel=1e-10)


def test_huber_by_hand() -> None:
    """Errors of 1 and 6 in deviations of 2: 1/2 and 3, the second beyond delta = 1."""
    student, target = torch.tensor([3.0, 0.0]), torch.tensor([2.0, 6.0])
    assert huber(student, target, 2.0, 1.0).item() == pytest.approx((0.5**2 / 2 + 1.0 * (3 - 0.5)) / 2)


def test_outputs_have_deviations_of_their_own() -> None:
    scale = torch.tensor([2.0, 5.0])
    expected = scipy_huber(1.0, (STUDENT - TARGET).numpy() / np.array([2.0, 5.0])).mean()
    assert huber(STUDENT, TARGET, scale, 1.0).item() == pytest.approx(expected, rel=1e-10)


def test_the_unit_does_not_count() -> None:
    """Degrees or radians, metres or feet: the same loss, as everything is in deviations."""
    expected = huber(STUDENT, TARGET, 3.0, 1.0).item()
    assert huber(1e3 * STUDENT + 7, 1e3 * TARGET + 7, 3e3, 1.0).item() == pytest.approx(expected)


def test_the_gradient_of_an_outlier_is_bounded() -> None:
    student = torch.tensor([0.0, 0.0], requires_grad=True)
    huber(student, torch.tensor([1e6, 0.5]), 1.0, 1.0).backward()
    assert student.grad is not None
    assert student.grad.tolist() == pytest.approx([-0.5, -0.25])


def test_predictions_that_would_broadcast() -> None:
    """[batch, 1] against [batch] would be a loss of all pairs: the student would learn the mean."""
    with pytest.raises(ValueError, match=r"but got \[50, 1\] and \[50\]; a prediction of \[batch, 1\] needs targets"):
        huber(STUDENT[:, :1], TARGET[:, 0], 1.0, 1.0)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), torch.tensor([1.0, 0.0])], ids=str)
def test_targets_without_deviation(scale) -> None:
    with pytest.raises(ValueError, match=r"`scale > 0` must hold, but got .*; leave out outputs that are constant"):
        huber(STUDENT, TARGET, scale, 1.0)
