import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import rel_entr, softmax

from compresslab.losses import dist, hard_label, kd, standardised_kd

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


def divergence(student, teacher, temperature):
    """T^2 KL by scipy, in fp64: the mean over the rows."""
    p, q = (softmax(np.asarray(x, dtype=float) / temperature, axis=1) for x in (teacher, student))
    return temperature**2 * rel_entr(p, q).sum(axis=1).mean()


def z_scores(logits):
    logits = logits.numpy()
    return (logits - logits.mean(axis=1, keepdims=True)) / logits.std(axis=1, keepdims=True)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
def test_standardised_kd_is_kd_of_z_scores(temperature):
    """Catches the deviation with divisor K - 1 (T would be off by a factor) and a missing T^2."""
    expected = divergence(z_scores(STUDENT), z_scores(TEACHER), temperature)
    assert standardised_kd(STUDENT, TEACHER, temperature).item() == pytest.approx(expected, rel=1e-10)


def test_standardised_kd_by_hand():
    """Two classes have z-scores 1 and -1: at T = 2 the log-odds are 1 and -1, and KL = tanh(1/2)."""
    student, teacher = torch.tensor([[0.0, 2.0]]), torch.tensor([[9.0, -5.0]])
    assert standardised_kd(student, teacher, 2.0).item() == pytest.approx(4 * math.tanh(0.5), rel=1e-6)


def test_standardised_kd_ignores_shift_and_positive_scale_of_each_row():
    """What defines the method; and a negative scale must not be ignored."""
    scale, shift = torch.tensor([[0.1], [30.0]]), torch.tensor([[5.0], [-2.0]])
    value = standardised_kd(STUDENT, TEACHER, 2.0)
    torch.testing.assert_close(standardised_kd(scale * STUDENT + shift, TEACHER, 2.0), value)
    torch.testing.assert_close(standardised_kd(STUDENT, scale * TEACHER + shift, 2.0), value)
    assert standardised_kd(scale * TEACHER + shift, TEACHER, 2.0).item() == pytest.approx(0, abs=1e-12)
    assert standardised_kd(-STUDENT, TEACHER, 2.0).item() > value.item() + 0.1


def test_standardised_kd_of_a_head_that_starts_at_zero():
    """Equal logits have no z-scores; the gradient must not be 1 / epsilon."""
    student = torch.cat([torch.full((1, 3), 1 / 3), STUDENT[:1].float()]).requires_grad_()
    loss = standardised_kd(student, TEACHER.float(), 2.0)
    loss.backward()
    assert student.grad[0].tolist() == [0.0, 0.0, 0.0]
    assert 0 < student.grad[1].abs().max() < 10
    assert loss.item() == pytest.approx(
        divergence(np.stack([np.zeros(3), z_scores(STUDENT)[0]]), z_scores(TEACHER), 2.0), rel=1e-5
    )


def correlations(student, teacher, temperature):
    """One minus the mean of numpy's correlations: over rows, over columns."""
    q, p = (softmax(x.numpy() / temperature, axis=1) for x in (student, teacher))
    rows = [np.corrcoef(a, b)[0, 1] for a, b in zip(q, p, strict=True)]
    columns = [np.corrcoef(a, b)[0, 1] for a, b in zip(q.T, p.T, strict=True)]
    return 1 - np.mean(rows), 1 - np.mean(columns)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_dist_is_one_minus_the_correlations(temperature):
    random = torch.Generator().manual_seed(3)
    student, teacher = (torch.randn(6, 5, generator=random, dtype=torch.float64) for _ in range(2))
    inter, intra = correlations(student, teacher, temperature)
    assert inter != pytest.approx(intra, rel=1e-2)
    expected = temperature**2 * (3 * inter + 0.5 * intra)
    assert dist(student, teacher, temperature, 3.0, 0.5).item() == pytest.approx(expected, rel=1e-10)


def test_dist_ignores_positive_affine_changes_of_each_row_of_probabilities():
    """Mixing with the uniform distribution is such a change; its share differs by row, so columns do notice."""
    probabilities = F.softmax(torch.randn(6, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64), 1)
    share = torch.linspace(0.1, 0.9, 6, dtype=torch.float64)[:, None]
    student = ((1 - share) * probabilities + share / 5).log()
    assert dist(student, probabilities.log(), 1.0, 1.0, 0.0).item() == pytest.approx(0, abs=1e-12)
    assert dist(student, probabilities.log(), 1.0, 0.0, 1.0).item() > 0.01


def test_dist_without_variance():
    """A row without preference, and a class that all rows rate alike, correlate with nothing: 0, no gradient."""
    student = torch.zeros(2, 3, requires_grad=True)
    loss = dist(student, TEACHER.float(), 1.0, 1.0, 1.0)
    loss.backward()
    assert loss.item() == pytest.approx(2.0)
    assert student.grad.abs().sum() == 0


def test_dist_needs_two_samples():
    with pytest.raises(ValueError, match="DIST needs a batch of at least 2 samples, but got 1; make the batch larger"):
        dist(STUDENT[:1], TEACHER[:1], 1.0, 1.0, 1.0)


def test_hard_label_by_hand():
    """The teacher's decisions are classes 0 and 1; how sure it is does not count."""
    expected = np.mean([-math.log(softmax(STUDENT[0].numpy())[0]), -math.log(softmax(STUDENT[1].numpy())[1])])
    assert hard_label(STUDENT, TEACHER).item() == pytest.approx(expected)
    assert hard_label(STUDENT, 100 * TEACHER - 7).item() == pytest.approx(expected)


def test_hard_label_of_a_tie_is_the_first():
    expected = F.cross_entropy(STUDENT, torch.tensor([0, 0]))
    assert hard_label(STUDENT, torch.ones(2, 3)).item() == pytest.approx(expected.item())


@pytest.mark.parametrize(
    "loss",
    [
        lambda s, t: standardised_kd(s, t, 1.0),
        lambda s, t: dist(s, t, 1.0, 1.0, 1.0),
        hard_label,
    ],
    ids=["standardised_kd", "dist", "hard_label"],
)
def test_finite_where_one_class_has_all_the_probability(loss):
    student = torch.tensor([[0.0, 1e4, 0.0], [1e4, 0.0, -1e4]], requires_grad=True)
    value = loss(student, torch.tensor([[1e4, 0.0, 0.0], [1e4, 0.0, 1.0]]))
    value.backward()
    assert value.isfinite()
    assert student.grad.isfinite().all()


@pytest.mark.parametrize(
    "loss",
    [lambda s, t: standardised_kd(s, t, 1.0), lambda s, t: dist(s, t, 1.0, 1.0, 1.0), hard_label],
    ids=["standardised_kd", "dist", "hard_label"],
)
def test_other_classes_than_the_teacher(loss):
    """One column would broadcast, and teach something without a word."""
    with pytest.raises(ValueError, match=r"must have the same shape, but got \[2, 3\] and \[2, 1\]; the teacher must"):
        loss(STUDENT, TEACHER[:, :1])
