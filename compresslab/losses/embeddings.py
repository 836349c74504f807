"""Losses between embeddings of a student and those of its teacher, and targets for a student that is narrower."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from compresslab.losses.directions import direction
from compresslab.losses.guards import in_fp32, same_shape

SAME_WIDTH = "project the student, or bring the teacher to its width with `principal_components`"


@in_fp32
def cosine(student: Tensor, teacher: Tensor) -> Tensor:
    """One minus the cosine similarity of each sample's embeddings, the mean over all: direction only, not length.

    An embedding of length 0 has no direction: its similarity is taken as 0, without gradient.

    Source: the alignment term of Sanh et al., "DistilBERT", 2019 (arXiv 1910.01108).

    Args:
        student: Embeddings, [..., width].
        teacher: Embeddings of the same samples, [..., width]; no gradient flows into them.

    Returns:
        A scalar, 0 to 2.

    Raises:
        ValueError: The shapes differ.
    """
    same_shape(student, teacher, SAME_WIDTH)
    return 1 - (direction(student) * direction(teacher.detach())).sum(dim=-1).mean()


@in_fp32
def mse(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared error between embeddings, the mean over samples and dimensions.

    Source: Reimers and Gurevych, "Making Monolingual Sentence Embeddings Multilingual using Knowledge Distillation",
    EMNLP 2020 (arXiv 2004.09813).

    Args:
        student: Embeddings, [..., width].
        teacher: Embeddings of the same samples, [..., width]; no gradient flows into them.

    Returns:
        A scalar, >= 0.

    Raises:
        ValueError: The shapes differ.
    """
    same_shape(student, teacher, SAME_WIDTH)
    return F.mse_loss(student, teacher.detach())


@in_fp32
def margin_mse(
    student_positive: Tensor, student_negative: Tensor, teacher_positive: Tensor, teacher_negative: Tensor
) -> Tensor:
    """Mean squared error between the margins (positive minus negative score) of student and teacher.

    The student keeps the teacher's distances between passages of a query, not its scores, so that a bi-encoder may
    learn from a cross-encoder of another range.

    Source: Hofstätter et al., "Improving Efficient Neural Ranking Models with Cross-Architecture Knowledge
    Distillation", 2020 (arXiv 2010.02666).

    Args:
        student_positive: Scores of the relevant passages, [batch] or any shape common to all four.
        student_negative: Scores of the others for the same queries.
        teacher_positive: The teacher's scores of the relevant passages; no gradient flows into them.
        teacher_negative: The teacher's scores of the others; no gradient flows into them.

    Returns:
        A scalar, >= 0.

    Raises:
        ValueError: The four shapes are not the same.
    """
    for other in (student_negative, teacher_positive, teacher_negative):
        same_shape(student_positive, other, "give a positive and a negative score for each pair", "all four scores")
    return F.mse_loss(student_positive - student_negative, (teacher_positive - teacher_negative).detach())


class PrincipalComponents(NamedTuple):
    """How wide embeddings become narrow ones: `(embeddings - mean) @ matrix`."""

    matrix: NDArray[np.float64]
    """[width of the teacher, width of the student], orthonormal columns, the most telling first."""
    mean: NDArray[np.float64]
    """[width of the teacher], of the embeddings given."""
    explained: float
    """Share of the variance that is kept, 0 to 1."""


def principal_components(embeddings: NDArray[np.floating], width: int) -> PrincipalComponents:
    """The directions in which a teacher's embeddings vary most: targets for a student that is narrower than it.

    `(embeddings - mean) @ matrix` keeps distances between samples best in the least-squares sense. Leave the mean in
    (`embeddings @ matrix`) where cosine similarities to zero count, as in retrieval. Deterministic.

    Args:
        embeddings: The teacher's, [samples, teacher's width], finite; of the training or transfer set, never of a
            split that chooses or tests.
        width: The student's, at most the number of samples and the teacher's width.

    Raises:
        ValueError: Not two axes, an infinite or missing value, or a width that there are no components for.
    """
    # Loading scikit-learn's decomposition takes most of a second, and most trainings do without.
    from sklearn.decomposition import PCA

    if embeddings.ndim != 2:
        raise ValueError(f"embeddings must be [samples, width], but got {list(embeddings.shape)}; flatten or pool them")
    if not 1 <= width <= min(embeddings.shape):
        raise ValueError(
            f"`1 <= width <= {min(embeddings.shape)}` must hold for {embeddings.shape[0]} embeddings of width "
            f"{embeddings.shape[1]}, but got {width}; give more samples or a narrower student"
        )
    if not np.isfinite(embeddings).all():
        raise ValueError("embeddings must be finite, but got infinite or missing values; look at the teacher's outputs")
    if (embeddings == embeddings[0]).all():
        raise ValueError("embeddings must differ, but all are equal; look at the teacher's inputs and outputs")
    # In fp64: this solver squares the data, which costs half the digits. It is exact, unlike the randomized one.
    pca = PCA(n_components=width, svd_solver="covariance_eigh").fit(embeddings.astype(np.float64))
    return PrincipalComponents(pca.components_.T, pca.mean_, float(pca.explained_variance_ratio_.sum()))
