"""Numbers of groups as targets: a document of group g >= 0 has target g, a query of it -(g + 1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from compresslab.measure.metrics import Targets

Rows: TypeAlias = npt.NDArray[np.int64]


def is_query(targets: Targets) -> npt.NDArray[np.bool_]:
    """Which rows are queries [n]; the others are documents."""
    queries: npt.NDArray[np.bool_] = targets < 0
    return queries


def groups_of(targets: Targets) -> Rows:
    """The group of each query and document [n]."""
    return np.where(is_query(targets), -(targets + 1), targets).astype(np.int64)
