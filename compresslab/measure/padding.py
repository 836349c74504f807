"""Padding of ids of tokens, cut where a batch needs none. Numpy alone, as the measuring process needs it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def trimmed(ids: npt.NDArray[np.int64], pad_id: int) -> npt.NDArray[np.int64]:
    """Ids [b, seq] without the columns at the end that are padding in every row; one is left at least."""
    used = np.flatnonzero((ids != pad_id).any(axis=0))
    return np.ascontiguousarray(ids[:, : int(used[-1]) + 1 if len(used) else 1])
