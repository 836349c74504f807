from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cosine as cosine_distance
from scipy.spatial.distance import pdist
from scipy.special import rel_entr, softmax
from torch import Tensor

from compresslab.losses import rkd_angle, rkd_distance, similarity_kl

RANDOM = torch.Generator().manual_seed(13)
STUDENT = torch.randn(6, 4, generator=RANDOM, dtype=torch.float64)
TEACHER = torch.randn(6, 9, generator=RANDOM, dtype=torch.float64)
ROTATION = torch.linalg.qr(torch.randn(9, 9, generator=RANDOM, dtype=torch.float64)).Q
LOSSES = {
    "rkd_distance": rkd_distance,
    "rkd_angle": rkd_angle,
    "similarity_kl": lambda student, teacher: similarity_kl(student, teacher, 0.5),
}
every_relation = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())


def huber(error: float) -> float:
    return error**2 / 2 if abs(error) <= 1 else abs(error) - 0.5


def test_distances_by_scipy() -> None:
    ours, theirs = (pdist(x.numpy()) / pdist(x.numpy()).mean() for x in (STUDENT, TEACHER))
    expected = np.mean([huber(a - b) for a, b in zip(ours, theirs, strict=True)])
    assert rkd_distance(STUDENT, TEACHER).item() == pytest.approx(expected, rel=1e-10)


def test_distances_by_hand() -> None:
    """On a line at 0, 1, 3: distances 1, 3, 2 of mean 2. At 0, 3, 30: 3, 30, 27 of mean 20, one of them far off."""
    student, teacher = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([[0.0], [3.0], [30.0]])
    expected = (huber(0.5 - 0.15) + huber(1.5 - 1.5) + huber(1.0 - 1.35)) / 3
    assert rkd_distance(student, teacher).item() == pytest.approx(expected, rel=1e-6)


def test_distances_far_apart_count_by_their_absolute_error() -> None:
    """Nine at one place and one outside: its normalised distances are 5, where the teacher's are 1."""
    student, teacher = torch.zeros(10, 2), torch.eye(10)
    student[0, 0] = 1.0
    expected = (9 * huber(5 - 1) + 36 * huber(0 - 1)) / 45
    assert rkd_distance(student, teacher).item() == pytest.approx(expected, rel=1e-6)


def angle(x: np.ndarray, i: int, j: int, k: int) -> float:
    return 1 - cosine_distance(x[i] - x[j], x[k] - x[j])


def test_angles_of_all_triplets() -> None:
    triplets = list(permutations(range(6), 3))
    assert len(triplets) == 6 * 5 * 4
    expected = np.mean([huber(angle(STUDENT.numpy(), *t) - angle(TEACHER.numpy(), *t)) for t in triplets])
    assert rkd_angle(STUDENT, TEACHER).item() == pytest.approx(expected, rel=1e-10)


def test_angles_by_hand() -> None:
    """A right isosceles triangle (cosines 0 and twice sqrt(1/2)) against an equilateral one (1/2 thrice)."""
    student = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    teacher = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, 0.75**0.5]])
    expected = (huber(0.5) + 2 * huber(0.5**0.5 - 0.5)) / 3
    assert rkd_angle(student, teacher).item() == pytest.approx(expected, rel=1e-5)


def similarities(x: np.ndarray) -> np.ndarray:
    return np.array([[1 - cosine_distance(a, b) for j, b in enumerate(x) if j != i] for i, a in enumerate(x)])


@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_similarity_kl_by_scipy(temperature: float) -> None:
    p, q = (softmax(similarities(x.numpy()) / temperature, axis=1) for x in (TEACHER, STUDENT))
    expected = temperature**2 * rel_entr(p, q).sum(axis=1).mean()
    assert similarity_kl(STUDENT, TEACHER, temperature).item() == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("loss", [rkd_distance, rkd_angle], ids=["rkd_distance", "rkd_angle"])
def test_rkd_ignores_rotation_shift_and_scale(loss) -> None:
    """What defines the method; and a stretch of one axis must not be ignored."""
    moved = 3 * TEACHER @ ROTATION + 5
    assert loss(moved, TEACHER).item() == pytest.approx(0, abs=1e-12)
    stretched = TEACHER.clone()
    stretched[:, 0] *= 3
    assert loss(stretched, TEACHER).item() > 1e-3


def test_similarity_kl_ignores_rotation_and_lengths() -> None:
    lengths = torch.linspace(0.1, 9, 6, dtype=torch.float64)[:, None]
    assert similarity_kl(lengths * TEACHER @ ROTATION, TEACHER, 0.1).item() == pytest.approx(0, abs=1e-12)
    assert similarity_kl(TEACHER + 1, TEACHER, 0.1).item() > 1e-4


@every_relation
@pytest.mark.parametrize("equal", [(0, 1), (0, 1, 2), (0, 1, 2, 3, 4, 5)], ids=["two", "three", "all"])
@pytest.mark.parametrize("teacher_too", [False, True])
def test_equal_samples_leave_the_gradient_finite(loss, equal: tuple[int, ...], teacher_too: bool) -> None:
    """A duplicate in a batch is common, and sqrt has no derivative at 0: one NaN there ends a training."""

    def with_equal(x: Tensor) -> Tensor:
        x = x.float()
        x[list(equal)] = x[0].clone()
        return x

    student = with_equal(STUDENT).requires_grad_()
    value = loss(student, with_equal(TEACHER) if teacher_too else TEACHER.float())
    value.backward()
    assert value.isfinite()
    assert student.grad is not None
    assert student.grad.abs().max() < 10


@every_relation
def test_embeddings_of_zeros(loss) -> None:
    student = torch.zeros(4, 3, requires_grad=True)
    value = loss(student, TEACHER[:4].float())
    value.backward()
    assert value.isfinite()
    assert student.grad is not None
    assert not student.grad.any()


@pytest.mark.parametrize(
    ("loss", "least"), [(LOSSES["rkd_distance"], 2), (LOSSES["rkd_angle"], 3), (LOSSES["similarity_kl"], 3)]
)
def test_too_few_samples_for_a_relation(loss, least: int) -> None:
    """Zero instead would let a batch of one train without the teacher, and say nothing."""
    assert loss(STUDENT[:least], TEACHER[:least]).isfinite()
    with pytest.raises(ValueError, match=f"needs a batch of at least {least} samples, but got {least - 1}; make the"):
        loss(STUDENT[: least - 1], TEACHER[: least - 1])


@every_relation
@pytest.mark.parametrize("teacher", [TEACHER[:5], TEACHER[:, :, None]], ids=["batch", "axes"])
def test_other_samples_than_the_teacher(loss, teacher: Tensor) -> None:
    with pytest.raises(ValueError, match=r"relations need \[batch, width\] of the same samples, but got \[6, 4\] and"):
        loss(STUDENT, teacher)
