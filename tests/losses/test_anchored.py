"""Losses of one tower against what the other makes of its samples."""

import pytest
import torch

from compresslab.losses import anchored_contrastive, anchored_kl, direction_mse

ANCHORS = torch.eye(4)
GROUPS = torch.tensor([0, 0, 1, 2])


def test_contrastive_is_least_where_every_sample_is_at_its_anchors():
    groups = torch.tensor([0, 1, 2])
    at_home = torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    moved = at_home[[1, 2, 0]]
    found, worse = (anchored_contrastive(one, groups, ANCHORS, GROUPS, 10.0) for one in (at_home, moved))
    assert found < 0.8 < worse, "both anchors of group 0 are right: log 2 of its row is left"


def test_contrastive_reads_directions_and_skips_samples_without_an_anchor():
    groups = torch.tensor([0, 7])
    points = torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 1.0]], requires_grad=True)
    found = anchored_contrastive(points, groups, ANCHORS, GROUPS, 5.0)
    assert torch.isclose(found, anchored_contrastive(points * 3, groups, ANCHORS * 2, GROUPS, 5.0))
    none = anchored_contrastive(points, torch.tensor([8, 9]), ANCHORS, GROUPS, 5.0)
    none.backward()
    assert none == 0
    assert points.grad.abs().sum() == 0


def test_kl_is_zero_for_the_teacher_itself_and_gives_it_no_gradient():
    torch.manual_seed(0)
    teacher, student = torch.randn(5, 4, requires_grad=True), torch.randn(5, 4, requires_grad=True)
    assert anchored_kl(teacher * 2, teacher, ANCHORS, 20.0).abs() < 1e-6
    found = anchored_kl(student, teacher, ANCHORS, 20.0)
    assert found > 0
    found.backward()
    assert teacher.grad is None
    assert student.grad.abs().sum() > 0


def test_mse_of_directions_is_two_less_cosines_by_width():
    one, other = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 0.5]])
    assert direction_mse(one, other) == pytest.approx(1.0)
    assert direction_mse(one, one * 7) == pytest.approx(0.0, abs=1e-7)


def test_widths_must_be_of_one_space():
    with pytest.raises(ValueError, match=r"embeddings are \[2, 3\] and anchors \[4, 4\]"):
        anchored_kl(torch.ones(2, 3), torch.ones(2, 3), ANCHORS, 1.0)
