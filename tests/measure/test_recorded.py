from __future__ import annotations

import numpy as np
import pytest

from compresslab.measure.measurement import Estimate
from compresslab.measure.recorded import difference, ratio


def test_the_limits_of_a_difference_are_at_the_hypotenuse() -> None:
    """3 and 4 make 5, on either side their own way."""
    found = difference(Estimate(10.0, 7.0, 14.0), Estimate(6.0, 3.0, 10.0))
    assert (found.value, found.low, found.high) == (4.0, 4.0 - 5.0, 4.0 + 5.0)


def test_a_ratio_turns_around_exactly() -> None:
    one, other = Estimate(2.0, 1.9, 2.2), Estimate(0.5, 0.49, 0.52)
    there, back = ratio(one, other), ratio(other, one)
    assert there.value == pytest.approx(4.0)
    assert (1 / back.value, 1 / back.high, 1 / back.low) == pytest.approx((there.value, there.low, there.high))
    assert there.low < 4.0 < there.high


def test_it_covers_like_the_intervals_it_is_made_of() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(1000):
        one, other = rng.normal(1.0, 0.1), rng.normal(2.0, 0.05)
        made = difference(Estimate(one, one - 0.196, one + 0.196), Estimate(other, other - 0.098, other + 0.098))
        held += made.low <= -1.0 <= made.high
    assert held / 1000 == pytest.approx(0.95, abs=0.02)
