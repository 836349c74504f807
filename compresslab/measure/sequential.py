"""Deciding while measuring: looking at the figures again and again, with the error rate kept.

Each fresh process gives one figure, such as the logarithm of the ratio of two medians. Processes are independent, and
the evidence is the interval of their median between two order statistics, by the binomial distribution (the inverted
sign test: Hahn and Meeker, "Statistical Intervals", 1991, 5.2). It assumes nothing of how the figures are distributed,
and a process that a neighbour disturbed is one vote, however far off it is; Student's interval needs both.

Looked at after every few processes until it speaks, a fixed interval would be wrong far too often. So look j spends
the share 1 / (j (j + 1)) of the error, and all looks together at most the whole: alpha spending (Lan and DeMets 1983;
Jennison and Turnbull, "Group Sequential Methods", 2000), by Bonferroni over the looks, which assumes nothing of how
they depend and needs no last look. The intervals are valid whenever one stops ("repeated confidence intervals",
Jennison and Turnbull 1989).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from scipy.special import bdtr

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from compresslab.measure.budget import Status

FIRST_LOOK = 8
"""Processes before the first look: seven that agree still do so by chance in 1 of 128 gates."""
_GROWTH = 1.3


def looks() -> Iterator[int]:
    """After how many processes to look: 8, 11, 15, 20, ..., as a look that adds little only spends error."""
    count = FIRST_LOOK
    while True:
        yield count
        count = math.ceil(count * _GROWTH)


def interval(values: Sequence[float], error: float, look: int) -> tuple[float, float]:
    """Bounds of the median, each wrong at most with probability `error` over all looks; `look` counts from 1.

    Infinite where there are too few values to know anything so surely.
    """
    count, allowed = len(values), error / (look * (look + 1))
    # The bound is the value that `outside` others lie beyond: as few as happen by chance no more often than allowed.
    outside = -1
    while bdtr(outside + 1, count, 0.5) <= allowed:
        outside += 1
    if outside < 0:
        return -math.inf, math.inf
    ordered = sorted(values)
    return ordered[outside], ordered[count - 1 - outside]


def verdict(values: Sequence[float], bound: float, look: int, wrong_pass: float, wrong_fail: float) -> Status:
    """Whether the median is at most `bound`; `wrong_pass` and `wrong_fail` are the error rates over all looks."""
    if interval(values, wrong_pass, look)[1] <= bound:
        return "pass"
    return "fail" if interval(values, wrong_fail, look)[0] > bound else "inconclusive"
