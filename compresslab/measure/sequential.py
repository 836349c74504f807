"""Deciding while measuring: looking at the figures again and again, with the error rate kept.

Each fresh process gives one figure, such as the logarithm of the ratio of two medians. Processes are independent, so
Student's t-interval of their mean is the evidence. Looked at after every few processes until it speaks, a fixed
interval would be wrong far too often; so look j spends the share 1 / (j (j + 1)) of the error, and all looks together
at most the whole: alpha spending (Lan and DeMets 1983; Jennison and Turnbull, "Group Sequential Methods", 2000), by
Bonferroni over the looks, which assumes nothing of how they depend and needs no last look. The intervals are valid
whenever one stops ("repeated confidence intervals", Jennison and Turnbull 1989).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import stdtrit

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from compresslab.measure.budget import Status

FIRST_LOOK = 6
"""Processes before the first look: with fewer, neither the spread nor the memory layouts are known at all."""
_GROWTH = 1.3


def looks() -> Iterator[int]:
    """After how many processes to look: 6, 8, 11, 15, 20, ..., as a look that adds little only spends error."""
    count = FIRST_LOOK
    while True:
        yield count
        count = math.ceil(count * _GROWTH)


def interval(values: Sequence[float], error: float, look: int) -> tuple[float, float]:
    """Bounds of the mean, each wrong at most with probability `error` over all looks; `look` counts from 1.

    With fewer than two values nothing is known.
    """
    count = len(values)
    if count < 2:
        return -math.inf, math.inf
    mean, spread = float(np.mean(values)), float(np.std(values, ddof=1))
    half = float(stdtrit(count - 1, 1.0 - error / (look * (look + 1)))) * spread / math.sqrt(count)
    return mean - half, mean + half


def verdict(values: Sequence[float], bound: float, look: int, wrong_pass: float, wrong_fail: float) -> Status:
    """Whether the mean is at most `bound`; `wrong_pass` and `wrong_fail` are the error rates over all looks."""
    if interval(values, wrong_pass, look)[1] <= bound:
        return "pass"
    return "fail" if interval(values, wrong_fail, look)[0] > bound else "inconclusive"
