"""Where a series of times has become steady: found by its change-points. numpy only, for the measuring process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

_SIGNIFICANT = 0.05


def steady_from(times: Sequence[float]) -> int:
    """The index from which the series gets no faster any more; 0 where it never did.

    A. N. Pettitt's rank test ("A non-parametric approach to the change-point problem", Applied Statistics 28, 1979)
    finds the place that best parts slower times from later, faster ones. What lies before it is cut off, until
    nothing significant is left. Ranks make it deaf to single outliers; fewer than ten values are never significant.
    """
    values = np.asarray(times, np.float64)
    start = 0
    while (change := _speed_up(values[start:])) > 0:
        start += change
    return start


def _speed_up(values: np.ndarray) -> int:
    """How many values lie before the most likely speed-up; 0 where none is significant."""
    count = len(values)
    if count < 2:
        return 0
    # Inside each part the signs cancel, so that the sum over all pairs is the sum over those across the cut.
    slower = np.sign(values[:, np.newaxis] - values[np.newaxis, :]).sum(axis=1)
    across = np.cumsum(slower)[:-1]
    cut = int(np.argmax(across))
    chance = np.exp(-6.0 * max(across[cut], 0.0) ** 2 / (count**3 + count**2))
    return cut + 1 if chance < _SIGNIFICANT else 0
