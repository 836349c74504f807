import math

import pytest
import torch
import torch.nn.functional as F

from compresslab.losses import kd

STUDENT = torch.tensor([[1.0, 0.0, -1.0], [0.5, 2.0, 0.0]], dtype=torch.float64)
TEACHER = torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, -1.0]], dtype=torch.float64)


def by_hand(student, teacher, temperature):
    """T^2 * mean over the batch of sum p * log(p / q), written out with `math` alone."""
    total = 0.0
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        p = [math.exp(x / temperature) for x in t]
        q = [math.exp(x / temperature) for x in s]
        p, q = [x / sum(p) for x in p], [x / sum(q) for x in q]
        total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    return temperature**2 * total / len(student)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0, 10.0])
def test_value_by_hand(temperature):
    """Catches a missing T^2, KL the wrong way round, and a mean over classes instead of the batch."""
    assert kd(STUDENT, TEACHER, temperature).item() == pytest.approx(by_hand(STUDENT, TEACHER, temperature), rel=1e-4)


def test_gradient_is_t_times_the_difference_of_probabilities():
    """d/ds of T^2 KL is T * (q - p) / batch (Hinton et al. 2015, eq. 2, times T^2)."""
    temperature = 3.0
    student = STUDENT.clone().requires_grad_()
    kd(student, TEACHER, temperature).backward()
    expected = temperature * (F.softmax(STUDENT / temperature, 1) - F.softmax(TEACHER / temperature, 1)) / 2
    torch.testing.assert_close(student.grad, expected, rtol=1e-5, atol=1e-7)


def test_no_gradient_reaches_the_teacher():
    teacher = TEACHER.clone().requires_grad_()
    kd(STUDENT.clone().requires_grad_(), teacher, 2.0).backward()
    assert teacher.grad is None


def test_zero_for_equal_distributions_whatever_the_shift():
    assert kd(TEACHER + 5.0, TEACHER, 4.0).item() == pytest.approx(0.0, abs=1e-6)


def test_fp32_under_autocast():
    """bf16 softmax has 8 bits: a loss computed in it is off by per cents for a confident teacher."""
    student, teacher = torch.randn(64, 10), 8 * torch.randn(64, 10)
    expected = kd(student, teacher, 4.0)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(kd(student, teacher, 4.0), expected, rtol=1e-6, atol=0)
