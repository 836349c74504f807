"""Losses of embeddings whose samples are queries and documents of numbered groups, several of each in a group.

Targets are those of an embedding task: a document of group g >= 0 has target g, a query of it -(g + 1). They see the
batch as a whole: under data parallel training it must be gathered before.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from compresslab.losses.directions import direction
from compresslab.losses.embeddings import margin_mse
from compresslab.losses.guards import in_fp32


@in_fp32
def grouped_contrastive(embeddings: Tensor, targets: Tensor, scale: float | Tensor) -> Tensor:
    """The in-batch contrastive task loss: cross-entropy of documents for each query and of queries for each document.

    All documents of a query's group are right, and its target is uniform over those in the batch; all others of the
    batch are wrong. The mean of both directions. Queries without a document in the batch, and documents without a
    query, are wrong answers to others and ask for nothing themselves.

    Source: Henderson et al., "Efficient Natural Language Response Suggestion for Smart Reply", 2017 (arXiv 1705.00652);
    with several positives Yang et al., "Unified Contrastive Learning in Image-Text-Label Space", CVPR 2022 (arXiv
    2204.03610).

    Args:
        embeddings: Of queries and documents, [batch, width].
        targets: Their groups, int64 [batch].
        scale: The logit scale, > 0, which multiplies the cosine similarities: the inverse of a temperature.

    Returns:
        A scalar, >= 0; 0 without gradient where no query has a document in the batch.

    Raises:
        ValueError: There is not one target for each embedding.
    """
    scores, right = _scores(embeddings, targets)
    if not bool(right.any()):
        return embeddings.sum() * 0.0
    scores, wanted = scale * scores, right.to(scores.dtype)
    return (_cross_entropy(scores, wanted) + _cross_entropy(scores.T, wanted.T)) / 2


@in_fp32
def grouped_margin_mse(student: Tensor, teacher: Tensor, targets: Tensor) -> Tensor:
    """Margin-MSE over all triples of a batch: a query, a document of its group, and a document of another group.

    The margin is the cosine with the right document minus that with the wrong one. See `losses.margin_mse`.

    Args:
        student: Embeddings of queries and documents, [batch, width].
        teacher: Embeddings of the same samples, [batch, any width]; no gradient flows into them.
        targets: Their groups, int64 [batch].

    Returns:
        A scalar, 0 to 16; 0 without gradient where the batch has no such triple.

    Raises:
        ValueError: There is not one target for each embedding.
    """
    ours, right = _scores(student, targets)
    theirs, _ = _scores(teacher.detach(), targets)
    query, document = right.nonzero(as_tuple=True)
    wrong = ~right[query]
    if not bool(wrong.any()):
        return student.sum() * 0.0
    margins = []
    for scores in (ours, theirs):
        margins += [scores[query, document][:, None].expand(wrong.shape)[wrong], scores[query][wrong]]
    return margin_mse(*margins)


def _scores(embeddings: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines [queries, documents], and which documents are right, bool of the same shape."""
    if embeddings.ndim != 2 or targets.shape != embeddings.shape[:1]:
        raise ValueError(
            f"embeddings must be [batch, width] with one group number each, but got {list(embeddings.shape)} and "
            f"{list(targets.shape)}"
        )
    queries = targets < 0
    unit = direction(embeddings)
    right = (-(targets[queries] + 1))[:, None] == targets[~queries][None, :]
    return unit[queries] @ unit[~queries].T, right


def _cross_entropy(scores: Tensor, wanted: Tensor) -> Tensor:
    """Of the rows that want something, to a target that is uniform over what they want."""
    asks = wanted.any(dim=1)
    wanted = wanted[asks]
    return F.cross_entropy(scores[asks], wanted / wanted.sum(dim=1, keepdim=True))
