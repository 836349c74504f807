from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cosine as cosine_distance
from scipy.special import rel_entr, softmax
from torch import Tensor

from compresslab.losses import contrastive_kl, feature_mse

RANDOM = torch.Generator().manual_seed(23)


def embeddings(width: int) -> Tensor:
    return torch.randn(5, width, generator=RANDOM, dtype=torch.float64)


IMAGE, TEXT, TEACHER_IMAGE, TEACHER_TEXT = embeddings(6), embeddings(6), embeddings(8), embeddings(8)


def cosines(image: Tensor, text: Tensor) -> np.ndarray:
    return np.array([[1 - cosine_distance(i, t) for t in text.numpy()] for i in image.numpy()])


def test_feature_mse_is_the_cosine_distance_of_both_towers_over_the_width() -> None:
    image, text = embeddings(6), embeddings(6)
    distance = 2 - cosines(IMAGE, image).diagonal().mean() - cosines(TEXT, text).diagonal().mean()
    assert feature_mse(IMAGE, TEXT, image, text).item() == pytest.approx(2 * distance / 6, rel=1e-10)
    assert feature_mse(3 * IMAGE, TEXT / 7, 0.1 * image, 9 * text).item() == pytest.approx(2 * distance / 6, rel=1e-10)


@pytest.mark.parametrize("tower", [0, 1])
def test_feature_mse_wants_the_teachers_width(tower: int) -> None:
    teacher = [IMAGE, TEXT]
    teacher[tower] = TEACHER_IMAGE
    with pytest.raises(ValueError, match=r"but got \[5, 6\] and \[5, 8\]; project the student"):
        feature_mse(IMAGE, TEXT, *teacher)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_contrastive_kl_is_the_mean_of_both_directions(temperature: float) -> None:
    student, teacher = 10 * cosines(IMAGE, TEXT) / temperature, 25 * cosines(TEACHER_IMAGE, TEACHER_TEXT) / temperature
    rows = rel_entr(softmax(teacher, axis=1), softmax(student, axis=1)).sum() / 5
    columns = rel_entr(softmax(teacher, axis=0), softmax(student, axis=0)).sum() / 5
    assert rows != pytest.approx(columns, rel=0.01)
    value = contrastive_kl(IMAGE, TEXT, TEACHER_IMAGE, TEACHER_TEXT, 10.0, 25.0, temperature)
    assert value.item() == pytest.approx(temperature**2 * (rows + columns) / 2, rel=1e-8)


def test_contrastive_kl_without_a_temperature_is_the_papers() -> None:
    arguments = IMAGE, TEXT, TEACHER_IMAGE, TEACHER_TEXT, 10.0, 25.0
    assert contrastive_kl(*arguments) == contrastive_kl(*arguments, 1.0)


def test_contrastive_kl_sees_only_what_both_towers_agree_on() -> None:
    """A rotation of both towers changes nothing, of one it does."""
    rotation = torch.linalg.qr(embeddings(6)[:, :5]).Q
    rotation = torch.block_diag(rotation, torch.eye(1, dtype=torch.float64))
    same = contrastive_kl(IMAGE @ rotation, 3 * TEXT @ rotation, IMAGE, TEXT, 10.0, 10.0)
    assert same.item() == pytest.approx(0, abs=1e-12)
    assert contrastive_kl(IMAGE @ rotation, TEXT, IMAGE, TEXT, 10.0, 10.0).item() > 0.01


def test_only_the_students_scale_learns() -> None:
    ours, theirs = torch.tensor(10.0, requires_grad=True), torch.tensor(25.0, requires_grad=True)
    contrastive_kl(IMAGE, TEXT, TEACHER_IMAGE, TEACHER_TEXT, ours, theirs).backward()
    assert ours.grad is not None
    assert ours.grad != 0
    assert theirs.grad is None


def test_embeddings_of_zeros_leave_the_gradient_finite() -> None:
    image, text = (torch.zeros(5, 6, requires_grad=True) for _ in range(2))
    value = contrastive_kl(image, text, TEACHER_IMAGE.float(), TEACHER_TEXT.float(), 100.0, 100.0)
    (value + feature_mse(image, text, IMAGE.float(), TEXT.float())).backward()
    for tower in (image, text):
        assert tower.grad is not None
        assert not tower.grad.any()


def test_a_batch_that_has_no_choice() -> None:
    with pytest.raises(ValueError, match="contrastive KL needs a batch of at least 2 samples, but got 1"):
        contrastive_kl(IMAGE[:1], TEXT[:1], TEACHER_IMAGE[:1], TEACHER_TEXT[:1], 10.0, 10.0)


def test_what_are_no_pairs() -> None:
    with pytest.raises(ValueError, match=r"images and texts must have the same shape, but got \[5, 8\] and \[5, 6\]"):
        contrastive_kl(IMAGE, TEXT, TEACHER_IMAGE, TEXT, 10.0, 10.0)
    with pytest.raises(ValueError, match="both must come from the same batch"):
        contrastive_kl(IMAGE, TEXT, TEACHER_IMAGE[:4], TEACHER_TEXT[:4], 10.0, 10.0)
