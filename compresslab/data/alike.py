"""Samples of a length together: a batch of texts is padded to its longest, and of mixed ones most would be padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]

_WINDOW = 64


def blocks_alike(lengths: npt.NDArray[np.int64] | None, count: int, size: int) -> list[Rows]:
    """All of `count` places in blocks of up to `size`: from the shortest to the longest, or as they come.

    Args:
        lengths: Of each sample [count]; None where all are of one length.
        count: How many there are.
        size: Of a block.
    """
    order = np.arange(count) if lengths is None else np.argsort(lengths, kind="stable")
    return [order[start : start + size] for start in range(0, count, size)]


def in_order(parts: Sequence[npt.NDArray[Any]], blocks: Sequence[Rows]) -> npt.NDArray[Any]:
    """What was made of each of the blocks, one row a sample, in the order of the samples again."""
    joined: npt.NDArray[Any] = np.concatenate(parts)
    return joined[np.argsort(np.concatenate(blocks), kind="stable")]


def batches_alike(batches: Sequence[Rows], lengths: npt.NDArray[np.int64], rng: np.random.Generator) -> list[Rows]:
    """The same samples in as many batches of the same sizes, each of samples whose lengths are near.

    Only within 64 batches at a time, and these come in a random order: an epoch stays a random one, but for who meets
    whom in a batch.

    Args:
        batches: Numbers of samples, shuffled; all batches of one size.
        lengths: Of each sample, by its number.
        rng: Of the order of the batches.
    """
    found: list[Rows] = []
    for start in range(0, len(batches), _WINDOW):
        window = batches[start : start + _WINDOW]
        rows = np.concatenate(window)
        parts = np.split(rows[np.argsort(lengths[rows], kind="stable")], len(window))
        found += [parts[number] for number in rng.permutation(len(parts))]
    return found
