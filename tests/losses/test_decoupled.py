from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import rel_entr, softmax
from torch import Tensor

from compresslab.losses import dkd, nkd

RANDOM = torch.Generator().manual_seed(5)
STUDENT, TEACHER = (2 * torch.randn(6, 5, generator=RANDOM, dtype=torch.float64) for _ in range(2))
LABELS = torch.tensor([0, 4, 2, 2, 3, 1])


def parts(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """KL of "label or not" and KL among the others, a number a sample, from probabilities as the paper has them."""
    target, others = [], []
    for s, t, label in zip(student.numpy(), teacher.numpy(), labels.tolist(), strict=True):
        p, q = softmax(t / temperature), softmax(s / temperature)
        target.append(rel_entr([p[label], 1 - p[label]], [q[label], 1 - q[label]]).sum())
        rest_p, rest_q = np.delete(p, label), np.delete(q, label)
        others.append(rel_entr(rest_p / rest_p.sum(), rest_q / rest_q.sum()).sum())
    return np.array(target), np.array(others)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.0, 1.0), (1.0, 8.0)])
def test_dkd_is_the_weighted_sum_of_its_parts(temperature: float, weights: tuple[float, float]) -> None:
    target, others = parts(STUDENT, TEACHER, LABELS, temperature)
    expected = temperature**2 * (weights[0] * target + weights[1] * others).mean()
    assert dkd(STUDENT, TEACHER, LABELS, temperature, *weights).item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("row", range(6))
def test_kd_is_the_target_part_plus_the_rest_of_the_probability_times_the_other_part(
    temperature: float, row: int
) -> None:
    """The identity that the method is built on (the paper's eq. 7), for each sample, against torch's own KL."""
    student, teacher, label = STUDENT[row : row + 1], TEACHER[row : row + 1], LABELS[row : row + 1]
    log_q, log_p = (F.log_softmax(logits / temperature, dim=1) for logits in (student, teacher))
    kd = temperature**2 * F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)
    rest = 1 - log_p.exp()[0, label]
    target = dkd(student, teacher, label, temperature, 1.0, 0.0)
    others = dkd(student, teacher, label, temperature, 0.0, 1.0)
    torch.testing.assert_close(target + rest.squeeze() * others, kd)


def test_the_other_part_does_not_see_the_labels_logit() -> None:
    student = STUDENT.clone().requires_grad_()
    dkd(student, TEACHER, LABELS, 2.0, 0.0, 1.0).backward()
    assert student.grad is not None
    of_label = student.grad.gather(1, LABELS[:, None])
    assert of_label.abs().max() == 0
    assert student.grad.abs().sum() > 0.1


def test_two_classes_have_no_other_part() -> None:
    assert dkd(STUDENT[:, :2], TEACHER[:, :2], LABELS % 2, 1.0, 0.0, 1.0).item() == 0
    whole = dkd(STUDENT[:, :2], TEACHER[:, :2], LABELS % 2, 1.0, 1.0, 8.0)
    expected, _ = parts(STUDENT[:, :2], TEACHER[:, :2], LABELS % 2, 1.0)
    assert whole.item() == pytest.approx(expected.mean())


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_nkd_is_the_papers_sum(temperature: float) -> None:
    """The label's part is at T = 1 whatever T is; the other part is a cross-entropy, with T^2."""
    total = 0.0
    for s, t, label in zip(STUDENT.numpy(), TEACHER.numpy(), LABELS.tolist(), strict=True):
        p, q = softmax(np.delete(t, label) / temperature), softmax(np.delete(s, label) / temperature)
        total -= softmax(t)[label] * np.log(softmax(s)[label]) + 1.5 * temperature**2 * (p * np.log(q)).sum()
    assert nkd(STUDENT, TEACHER, LABELS, temperature, 1.5).item() == pytest.approx(total / 6, rel=1e-10)


def test_nkd_of_two_classes_is_the_labels_part() -> None:
    labels = LABELS % 2
    p, q = (F.softmax(logits[:, :2], dim=1).gather(1, labels[:, None]) for logits in (TEACHER, STUDENT))
    assert nkd(STUDENT[:, :2], TEACHER[:, :2], labels, 2.0, 1.5).item() == pytest.approx(-(p * q.log()).mean().item())


@pytest.mark.parametrize("loss", [lambda *x: dkd(*x, 1.0, 1.0, 8.0), lambda *x: nkd(*x, 1.0, 1.5)], ids=["dkd", "nkd"])
@pytest.mark.parametrize("label", [0, 1])
def test_finite_where_one_class_has_all_the_probability(loss, label: int) -> None:
    """log(1 - p) of a sure teacher is log(0): in fp32 from a margin of 17 on, which real teachers have."""
    student = torch.tensor([[0.0, 500.0, 0.0], [500.0, 0.0, -500.0], [0.0, 0.0, 0.0]], requires_grad=True)
    teacher = torch.tensor([[500.0, 0.0, 0.0], [500.0, 1.0, 0.0], [-500.0, -500.0, 500.0]])
    value = loss(student, teacher, torch.full((3,), label))
    value.backward()
    assert value.isfinite()
    assert student.grad is not None
    assert student.grad.isfinite().all()


def test_a_sure_teachers_knowledge_of_the_other_classes_is_kept() -> None:
    """By probabilities in fp32 all others would be 0 of 0; the margins between them are still there."""
    student, teacher = torch.zeros(1, 3), torch.tensor([[200.0, 1.0, 0.0]])
    p = 1 / (1 + np.exp(-1.0))
    expected = p * np.log(2 * p) + (1 - p) * np.log(2 * (1 - p))
    assert dkd(student, teacher, torch.tensor([0]), 1.0, 0.0, 1.0).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", [lambda *x: dkd(*x, 1.0, 1.0, 8.0), lambda *x: nkd(*x, 1.0, 1.5)], ids=["dkd", "nkd"])
def test_other_classes_than_the_teacher(loss) -> None:
    with pytest.raises(ValueError, match=r"must have the same shape, but got \[6, 5\] and \[6, 1\]; the teacher must"):
        loss(STUDENT, TEACHER[:, :1], LABELS)
