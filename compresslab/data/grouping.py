"""Things that belong together because they share something: numbered, and joined into groups."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Numbers = Sequence[int] | npt.NDArray[np.int64]


def numbered(values: Sequence[str]) -> list[int]:
    """For each value its number, in the order in which they first come."""
    numbers: dict[str, int] = {}
    return [numbers.setdefault(value, len(numbers)) for value in values]


def connected(first: Numbers, second: Numbers) -> npt.NDArray[np.int64]:
    """For each edge between two numbered things the number of the component that it is in [edges]."""
    one, other = np.asarray(first, np.int64), np.asarray(second, np.int64)
    size = int(one.max()) + int(other.max()) + 2
    edges = coo_array((np.ones(len(one)), (one, int(one.max()) + 1 + other)), shape=(size, size))
    return np.asarray(connected_components(edges, directed=False)[1][one], np.int64)
