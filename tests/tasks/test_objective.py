import math

import pytest
import torch

from compresslab.tasks import Classes, Score


def test_the_loss_of_classes_is_cross_entropy():
    """-log softmax of (2, 0) at 0 and of (0, 1) at 0, worked by hand."""
    loss = Classes(("a", "b")).loss(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0]))
    assert float(loss) == pytest.approx((math.log1p(math.exp(-2)) + math.log1p(math.exp(1))) / 2)


def test_the_loss_of_a_score_is_hubers_in_units_of_the_targets_deviation():
    """Off by 0.5 deviations: 0.5^2 / 2; by 3: 3 - 1 / 2."""
    outputs, targets = torch.tensor([[105.0], [70.0]]), torch.tensor([100.0, 100.0])
    loss = Score("height", 100.0, 10.0).loss(outputs, targets)
    assert float(loss) == pytest.approx((0.125 + 2.5) / 2)


def test_every_output_meets_its_own_target():
    """[b, 1] less [b] would be [b, b] in torch: each output against all the targets."""
    targets = torch.arange(4.0)
    assert float(Score("x", 0.0, 1.0).loss(targets[:, None], targets)) == 0.0


def test_the_gradient_of_a_score_is_that_of_the_formula():
    outputs = torch.tensor([[1.0], [-0.2], [30.0]], dtype=torch.float64, requires_grad=True)
    targets = torch.zeros(3)
    Score("x", 0.0, 2.0).loss(outputs, targets).backward()
    # Within delta the difference in deviations, beyond it its sign; by the deviation once more, and averaged.
    expected = torch.tensor([[0.5], [-0.1], [1.0]], dtype=torch.float64) / 2.0 / 3.0
    torch.testing.assert_close(outputs.grad, expected, rtol=1e-6, atol=1e-9)


def test_losses_are_float32_under_autocast():
    """bfloat16 has eight bits: of targets near 1000 it keeps every fourth whole number."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        score = Score("x", 1000.0, 1.0).loss(torch.tensor([[1001.0]]), torch.tensor([1000.5]))
    assert score.dtype == torch.float32
    assert float(score) == pytest.approx(0.125)


def test_what_a_network_must_answer():
    assert (Classes(("a", "b", "c")).outputs, Classes(("a",)).kind) == (3, "classification")
    assert (Score("x", 0.0, 1.0).outputs, Score("x", 0.0, 1.0).kind) == (1, "regression")
