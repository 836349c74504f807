"""Deterministic splits by content: the same sample never lies in two of them, whatever the order of the files."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from compresslab.data.randomness import uniform
from compresslab.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from compresslab.data.arrays import Targets
    from compresslab.data.identity import Ids

Rows = npt.NDArray[np.int64]

_CHOOSE, _ARRANGE = range(2)


def carve(ids: Ids, targets: Targets, wanted: Mapping[str, int], seed: int) -> dict[str, Rows]:
    """Takes the wanted splits out of a pool of samples; the rest is `train`.

    Every split has its share of each class, and copies of one sample stay together, so that with copies a split may
    be a little larger than wanted. A class's last sample stays in `train`. The rows of a split come in a random order
    that depends on content and seed alone, so any first part of them is a fair sample.

    Args:
        ids: Content ids [n].
        targets: Class of each sample [n], or whatever group every split should have its share of.
        wanted: Samples for each split but `train`.
        seed: Another one gives other splits.

    Raises:
        DataError: More samples are wanted than there are, or a split would be empty.
    """
    total = sum(wanted.values())
    if total >= len(ids):
        asked = " + ".join(f"`{name}` {count}" for name, count in wanted.items())
        raise DataError(f"{asked} = {total} samples leave none of {len(ids)} for training; ask for fewer")
    order = _shuffled(ids, seed, _CHOOSE)
    _, first, group_of = np.unique(ids, return_index=True, return_inverse=True)
    class_of = targets[first][group_of]
    taken: dict[str, list[Rows]] = {name: [] for name in ("train", *wanted)}
    shares = {name: _shares(count, np.bincount(class_of)) for name, count in wanted.items()}
    for label in np.unique(class_of):
        rows = order[class_of[order] == label]
        ends = np.flatnonzero(np.diff(group_of[rows], append=-1)) + 1  # where each sample's copies end
        start = 0
        for name in wanted:
            stop = start
            if shares[name][label] and len(ends) > 1:
                reached = int(np.searchsorted(ends, start + shares[name][label]))
                stop = max(start, int(ends[min(reached, len(ends) - 2)]))
            taken[name].append(rows[start:stop])
            start = stop
        taken["train"].append(rows[start:])
    rank = np.empty(len(ids), np.int64)
    # Not in the order of choosing: that would put the classes of a split one after the other, or nearly.
    rank[_shuffled(ids, seed, _ARRANGE)] = np.arange(len(ids))
    splits = {name: np.concatenate(parts) for name, parts in taken.items()}
    for name, split in splits.items():
        if not len(split):
            raise DataError(f"`{name}` would be empty: {len(ids)} samples are too few; give more, or a larger `{name}`")
    return {name: split[np.argsort(rank[split])] for name, split in splits.items()}


def prove_disjoint(ids: Mapping[str, Ids], noun: str = "images") -> None:
    """Checks that no content id is in two splits; `noun` is what samples are called.

    Raises:
        DataError: One is; the message names the splits and how many samples they share.
    """
    for one, other in combinations(ids, 2):
        shared = np.intersect1d(ids[one], ids[other])
        if len(shared):
            raise DataError(
                f"`{one}` and `{other}` share {len(shared)} {noun} by content, so results on them would be too good"
            )


def require_every_class(targets: Targets, labels: tuple[str, ...], split: str) -> None:
    """Checks that a split has a sample of every class.

    Raises:
        DataError: A class has none; the message names it.
    """
    counts = np.bincount(targets, minlength=len(labels))
    missing = [label for label, count in zip(labels, counts, strict=True) if not count]
    if missing:
        raise DataError(
            f"`{split}` has no sample of {'class' if len(missing) == 1 else 'classes'} "
            f"{', '.join(f'`{label}`' for label in missing)}; add samples, or remove the label"
        )


def _shuffled(ids: Ids, seed: int, stream: int) -> Rows:
    """All rows in a random order that depends on content alone; copies stay together."""
    return np.lexsort((np.arange(len(ids)), ids, uniform(ids, seed, stream)))


def _shares(count: int, classes: npt.NDArray[np.int64]) -> Rows:
    """`count` divided among classes by their sizes: whole numbers that sum to it (largest remainders)."""
    exact = count * classes / classes.sum()
    shares: Rows = np.floor(exact).astype(np.int64)
    largest = np.argsort(shares - exact, kind="stable")[: count - int(shares.sum())]
    shares[largest] += 1
    return shares
