from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cosine as cosine_distance

from compresslab.losses import cosine, margin_mse, mse, principal_components

RANDOM = torch.Generator().manual_seed(17)
STUDENT, TEACHER = (torch.randn(5, 7, generator=RANDOM, dtype=torch.float64) for _ in range(2))


def test_cosine_by_scipy() -> None:
    expected = np.mean([cosine_distance(s, t) for s, t in zip(STUDENT.numpy(), TEACHER.numpy(), strict=True)])
    assert cosine(STUDENT, TEACHER).item() == pytest.approx(expected, rel=1e-10)


def test_cosine_ignores_length_but_not_sign() -> None:
    lengths = torch.linspace(0.1, 9, 5, dtype=torch.float64)[:, None]
    assert cosine(lengths * TEACHER, TEACHER).item() == pytest.approx(0, abs=1e-12)
    assert cosine(-lengths * TEACHER, TEACHER).item() == pytest.approx(2)


def test_cosine_of_an_embedding_of_zeros() -> None:
    student = torch.zeros(1, 7, requires_grad=True)
    loss = cosine(student, TEACHER[:1].float())
    loss.backward()
    assert loss.item() == 1
    assert student.grad is not None
    assert not student.grad.any()


def test_mse_by_hand() -> None:
    assert mse(torch.tensor([[1.0, 2.0]]), torch.tensor([[4.0, 2.0]])).item() == pytest.approx(4.5)


@pytest.mark.parametrize("loss", [cosine, mse], ids=["cosine", "mse"])
def test_a_narrower_student_is_told_what_to_do(loss) -> None:
    with pytest.raises(ValueError, match=r"but got \[5, 1\] and \[5, 7\]; project the student, or .*principal_comp"):
        loss(STUDENT[:, :1], TEACHER)


def test_margin_mse_by_hand() -> None:
    """Margins 2 and -1 against 3 and 1: only they count, not the level of the scores."""
    student = torch.tensor([5.0, 1.0]), torch.tensor([3.0, 2.0])
    teacher = torch.tensor([100.0, 51.0]), torch.tensor([97.0, 50.0])
    assert margin_mse(*student, *teacher).item() == pytest.approx((1 + 4) / 2)


@pytest.mark.parametrize("position", [1, 2, 3])
def test_margin_mse_refuses_scores_that_would_broadcast(position: int) -> None:
    scores = [torch.zeros(4) for _ in range(4)]
    scores[position] = torch.zeros(4, 1)
    with pytest.raises(ValueError, match=r"all four scores must have the same shape, but got \[4\] and \[4, 1\]; give"):
        margin_mse(*scores)


def embeddings(samples: int = 200, width: int = 12) -> np.ndarray:
    """Of unequal variances along rotated axes, and a mean far from 0."""
    random = np.random.default_rng(19)
    rotation, _ = np.linalg.qr(random.normal(size=(width, width)))
    return (random.normal(size=(samples, width)) * np.linspace(3, 0.1, width)) @ rotation + 5


@pytest.mark.parametrize("samples", [200, 8])
def test_principal_components_by_svd(samples: int) -> None:
    """With fewer samples than dimensions too. The space spanned is compared, as signs are free."""
    given = embeddings(samples)
    matrix, mean, explained = principal_components(given, 4)
    _, values, rows = np.linalg.svd(given - given.mean(axis=0))
    np.testing.assert_allclose(mean, given.mean(axis=0))
    np.testing.assert_allclose(matrix @ matrix.T, rows[:4].T @ rows[:4], atol=1e-8)
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(4), atol=1e-10)
    assert explained == pytest.approx((values[:4] ** 2).sum() / (values**2).sum())
    targets = (given - mean) @ matrix
    np.testing.assert_allclose(targets.std(axis=0) * np.sqrt(samples), values[:4])


def test_all_components_lose_nothing() -> None:
    given = embeddings()
    matrix, mean, explained = principal_components(given, 12)
    assert explained == pytest.approx(1)
    np.testing.assert_allclose((given - mean) @ matrix @ matrix.T + mean, given)


def test_half_precision_embeddings_are_widened() -> None:
    """A cache keeps fp16; sums of 200 squares of it would be off by per cents."""
    half = embeddings().astype(np.float16)
    wide = principal_components(half.astype(np.float64), 4)
    for one, other in zip(principal_components(half, 4), wide, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("given", "width", "message"),
    [
        (embeddings(), 0, "`1 <= width <= 12` must hold for 200 embeddings of width 12, but got 0; give more samples"),
        (embeddings(), 13, "`1 <= width <= 12` must hold .* but got 13"),
        (embeddings(3), 4, "`1 <= width <= 3` must hold for 3 embeddings of width 12, but got 4"),
        (embeddings().ravel(), 1, r"must be \[samples, width\], but got \[2400\]"),
        (np.full((9, 4), np.nan), 2, "must be finite, but got infinite or missing values; look at"),
        (np.full((9, 4), 0.1), 2, "must differ, but all are equal"),
    ],
)
def test_embeddings_without_components(given: np.ndarray, width: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        principal_components(given, width)


def test_scikit_learn_is_loaded_only_where_it_is_needed() -> None:
    """It takes most of a second, which every training would pay."""
    code = "import sys, compresslab.losses; print('sklearn' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out == "False\n"
