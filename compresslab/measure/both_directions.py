"""Retrieval between two towers, both ways at once: the mean of what texts find among images and images among texts.

Targets are those of retrieval, in which one tower's samples are documents (group g) and the other's queries (-(g + 1)).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from compresslab.measure.metrics import Floats, Outputs, Targets

    OfQueries = Callable[[Outputs, Targets], Floats]


def turned(targets: Targets) -> npt.NDArray[np.int64]:
    """The same groups with queries and documents exchanged: the other direction."""
    return np.asarray(-(targets + 1), np.int64)


def by_direction(of_queries: OfQueries, outputs: Outputs, targets: Targets) -> Floats:
    """Which direction (0 as the targets have it, 1 turned) and what was found, of every query [queries, 2]."""
    found = [of_queries(outputs, given) for given in (targets, turned(targets))]
    return np.concatenate(
        [np.column_stack([np.full(len(one), direction), one[:, 0]]) for direction, one in enumerate(found)]
    )


def mean_of_directions(outcomes: Targets, counts: Floats) -> Floats:
    """The mean of the two directions' means in each resample; a direction that it has no query of does not count."""
    means = []
    for direction in (0, 1):
        its = outcomes[:, 0] == direction
        drawn = counts[:, its].sum(axis=1)
        total = counts[:, its] @ outcomes[its, 1]
        means.append(np.divide(total, drawn, out=np.full(len(counts), np.nan), where=drawn > 0))
    return np.asarray(np.nanmean(np.stack(means), axis=0))
