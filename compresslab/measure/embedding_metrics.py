"""Metrics of answers that are embeddings: retrieval by cosine similarity, and how cosines follow human scores.

Targets of retrieval are group numbers: a document of group g >= 0 has target g, a query of it -(g + 1). All documents
of its group are right for a query, all others wrong. Equal cosines count against the model: a right document comes
after all wrong ones that are as near, so that a network which maps everything to one point finds nothing. Cosines that
differ by less than float32 can tell are equal; an embedding of length 0 has a cosine of 0 with all.

Targets of pairs are scores: rows 2i and 2i + 1 are pair i, and both have its score.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from compresslab.errors import DataError
from compresslab.measure import score_metrics as scores
from compresslab.measure.groups import Rows, groups_of, is_query

if TYPE_CHECKING:
    from compresslab.measure.metrics import Floats, Outputs, Targets

# Cosines in float32 are off by some 1e-7.
_DECIMALS = 6
# Cosines that are held at a time: 64 MB of float32.
_CHUNK = 16_000_000
# Of more samples, so many are compared with each other: 130,000 pairs.
_COMPARED = 512
_SHOWN = 5


def check_retrieval(outputs: Outputs, targets: Targets) -> None:
    """Refuses what nothing can be found in.

    Raises:
        DataError: Lengths differ, there are no queries or no documents, targets are no group numbers, a query's group
            has no document, or an embedding is not finite or has no direction.
    """
    _check_embeddings(outputs, targets)
    if targets.dtype.kind != "i":
        raise DataError(
            f"retrieval needs whole group numbers, but the targets are {targets.dtype}; give a document of group g the "
            "target g, and a query of it -(g + 1)"
        )
    queries, groups = is_query(targets), groups_of(targets)
    if not queries.any() or queries.all():
        missing = "documents (targets >= 0)" if queries.any() else "queries (targets below 0)"
        raise DataError(f"there are no {missing} among {len(targets)} samples, so nothing can be looked for; add some")
    lonely = np.flatnonzero(queries & ~np.isin(groups, groups[~queries]))
    if len(lonely):
        raise DataError(
            f"{len(lonely)} of {int(queries.sum())} queries have no document of their group (rows {_first(lonely)}), "
            "so no answer to them is right; add their documents, or leave these queries out"
        )


def check_pairs(outputs: Outputs, targets: Targets) -> None:
    """Refuses what has no scored pairs.

    Raises:
        DataError: Lengths differ, the number of rows is odd, the two rows of a pair have different scores, the scores
            are all equal or not finite, or an embedding is not finite or has no direction.
    """
    _check_embeddings(outputs, targets)
    if targets.dtype.kind != "f" or len(targets) % 2 or not np.array_equal(targets[::2], targets[1::2], equal_nan=True):
        raise DataError(
            f"`similarity` needs pairs: rows 2i and 2i + 1 are a pair and both have its score as a float, but got "
            f"{len(targets)} targets of {targets.dtype}; repeat each score for both texts of its pair"
        )
    scores.check_scores(_cosines_of_pairs(outputs)[:, np.newaxis].astype(np.float32), targets[::2])


def retrieval_ranks(outputs: Outputs, targets: Targets) -> tuple[list[Rows], Rows]:
    """For each query, in order, the ranks from 1 of its right documents, nearest first; and the queries' rows [q]."""
    unit, groups = _directions(outputs), groups_of(targets)
    queries, documents = np.flatnonzero(is_query(targets)), np.flatnonzero(~is_query(targets))
    index = np.ascontiguousarray(unit[documents].T)
    # The documents by group: those of one are next to each other.
    order = np.argsort(groups[documents], kind="stable")
    ordered = groups[documents][order]
    first, last = (np.searchsorted(ordered, groups[queries], side=side) for side in ("left", "right"))
    ranks: list[Rows] = []
    rows = max(1, _CHUNK // max(1, len(documents)))
    for start in range(0, len(queries), rows):
        cosines = np.round(unit[queries[start : start + rows]] @ index, _DECIMALS)
        for place, near in enumerate(cosines, start):
            right = np.sort(near[order[first[place] : last[place]]])[::-1]
            ascending = np.sort(near)
            as_near = len(near) - np.searchsorted(ascending, right, side="left")
            right_as_near = len(right) - np.searchsorted(right[::-1], right, side="left")
            ranks.append((np.arange(1, len(right) + 1) + as_near - right_as_near).astype(np.int64))
    return ranks, queries


def recalls(outputs: Outputs, targets: Targets, cutoff: int) -> Floats:
    """The share of each query's right documents that are among the `cutoff` nearest [queries, 1]."""
    ranks, _ = retrieval_ranks(outputs, targets)
    return np.array([[(one <= cutoff).mean()] for one in ranks], np.float64)


def gains(outputs: Outputs, targets: Targets, cutoff: int) -> Floats:
    """The normalised discounted cumulative gain of each query's `cutoff` nearest documents [queries, 1].

    Source: Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", TOIS 20, 2002; gains are 1.
    """
    discounts = 1.0 / np.log2(np.arange(2, cutoff + 2))
    best = np.cumsum(discounts)
    ranks, _ = retrieval_ranks(outputs, targets)
    found = [discounts[one[one <= cutoff] - 1].sum() / best[min(len(one), cutoff) - 1] for one in ranks]
    return np.array(found, np.float64)[:, np.newaxis]


def mean_of_counts(outcomes: Targets, counts: Floats) -> Floats:
    """The mean outcome of each resample."""
    return np.asarray(counts @ outcomes[:, 0] / counts.sum(axis=1))


def similarity(outputs: Outputs, targets: Targets) -> float:
    """Spearman's correlation of the pairs' cosines with their scores."""
    cosines = _cosines_of_pairs(outputs)
    return 0.0 if np.ptp(cosines) == 0 else scores.spearman(cosines[:, np.newaxis].astype(np.float32), targets[::2])


def score_and_cosine(outputs: Outputs, targets: Targets) -> Floats:
    """All that `similarity` reads of each pair, float64 [pairs, 2]."""
    return np.stack([targets[::2].astype(np.float64), _cosines_of_pairs(outputs)], axis=1)


def alike(this: Outputs, other: Outputs) -> float:
    """Pearson's correlation of two models' cosines between the same samples: works for any two widths.

    Of more than 512 samples as many are taken, spread over them. 1 for the same embeddings, whatever they are; 0 where
    one model tells nothing apart.
    """
    if np.array_equal(this, other):
        return 1.0
    rows = np.unique(np.linspace(0, len(this) - 1, _COMPARED).astype(np.int64))
    ours, theirs = pairwise_cosines(this[rows]), pairwise_cosines(other[rows])
    if len(ours) < 2 or np.ptp(ours) == 0 or np.ptp(theirs) == 0:
        return 0.0
    return float(np.corrcoef(ours, theirs)[0, 1])


def pairwise_cosines(outputs: Outputs) -> Floats:
    """The cosine of every two samples, float64 [n * (n - 1) / 2]."""
    unit = _directions(outputs).astype(np.float64)
    upper = np.triu_indices(len(unit), 1)
    return np.asarray(np.round((unit @ unit.T)[upper], _DECIMALS))


def _check_embeddings(outputs: Outputs, targets: Targets) -> None:
    if len(outputs) != len(targets) or len(targets) == 0:
        raise DataError(
            f"{len(outputs)} outputs for {len(targets)} targets; there must be one for each, and at least one"
        )
    broken = np.flatnonzero(~np.isfinite(outputs).all(axis=1))
    if len(broken):
        raise DataError(
            f"{len(broken)} of {len(outputs)} embeddings hold NaN or infinity (rows {_first(broken)}); the weights or "
            "the quantization ranges are broken"
        )
    zero = np.flatnonzero(~outputs.any(axis=1))
    if len(zero):
        raise DataError(
            f"{len(zero)} of {len(outputs)} embeddings are zero (rows {_first(zero)}), which is no direction; look at "
            "these samples (are they empty?), or at the network, which may be dead"
        )


def _cosines_of_pairs(outputs: Outputs) -> Floats:
    unit = _directions(outputs).astype(np.float64)
    return np.asarray(np.round((unit[::2] * unit[1::2]).sum(axis=1), _DECIMALS))


def _directions(outputs: Outputs) -> Outputs:
    """Of length 1; what has no length stays zero."""
    exact = outputs.astype(np.float64)
    length = np.linalg.norm(exact, axis=1, keepdims=True)
    return np.asarray(np.divide(exact, length, out=np.zeros_like(exact), where=length > 0), np.float32)


def _first(rows: npt.NDArray[np.intp]) -> str:
    shown = ", ".join(str(row) for row in rows[:_SHOWN])
    return f"{shown}, ..." if len(rows) > _SHOWN else shown
