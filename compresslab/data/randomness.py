"""Counter-based randomness: a number is a function of (sample id, seed, stream), never of what was drawn before.

So a sample is augmented the same way in whatever batch, order or process it comes, and can be replayed.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


def uniform(ids: npt.NDArray[np.uint64], seed: int, stream: int) -> npt.NDArray[np.float64]:
    """One number in [0, 1) for each id.

    Args:
        ids: Sample ids [n].
        seed: Any whole number; its low 64 bits count.
        stream: Which draw this is; draws of different streams are independent.
    """
    # Three rounds, so that neighbouring seeds, streams and ids have nothing in common.
    key = _mix(np.array([(seed + _GOLDEN) & _MASK], np.uint64))
    sample = _mix(np.asarray(ids, np.uint64) ^ key)
    drawn = _mix(sample + np.uint64((stream + 1) * _GOLDEN & _MASK))
    return (drawn >> np.uint64(11)).astype(np.float64) * 2.0**-53


def integers(ids: npt.NDArray[np.uint64], seed: int, stream: int, low: int, high: int) -> npt.NDArray[np.int64]:
    """One whole number in [low, high] for each id."""
    return low + (uniform(ids, seed, stream) * (high - low + 1)).astype(np.int64)


def _mix(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finalizer of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014); arrays wrap modulo 2^64."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
