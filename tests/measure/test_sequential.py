from __future__ import annotations

import math
from itertools import islice

import numpy as np
import pytest
from scipy import stats

from compresslab.measure.sequential import FIRST_LOOK, interval, looks, verdict


def test_looks_come_ever_more_rarely_and_never_end() -> None:
    assert list(islice(looks(), 6)) == [8, 11, 15, 20, 26, 34]


def test_bounds_are_the_order_statistics_of_the_sign_test() -> None:
    """Of 20 values, 3 or fewer lie on one side by chance in 0.13 %, 4 or fewer in 0.59 %."""
    values = list(np.random.default_rng(0).permutation(20).astype(float))
    assert stats.binom.cdf([3, 4], 20, 0.5) == pytest.approx([0.00129, 0.00591], abs=1e-5)
    assert interval(values, 2 * 0.0059, 1) == (3.0, 16.0)
    assert interval(values, 2 * 0.0060, 1) == (4.0, 15.0)


def test_later_looks_are_stricter_and_all_together_spend_no_more_than_the_error() -> None:
    assert sum(1.0 / (look * (look + 1)) for look in range(1, 10_000)) < 1.0
    values = [float(value) for value in range(30)]
    early, late = interval(values, 0.01, 1), interval(values, 0.01, 5)
    assert late[0] < early[0] < early[1] < late[1]


def test_few_processes_say_nothing_however_they_agree() -> None:
    """Seven equal ones happen by chance in 1 of 128; the first look may be wrong in 1 of 200."""
    assert interval([0.0] * (FIRST_LOOK - 1), 0.01, 1) == (-math.inf, math.inf)
    assert interval([0.0] * FIRST_LOOK, 0.01, 1) == (0.0, 0.0)
    assert verdict([], 0.05, 1, 0.01, 0.01) == "inconclusive"


@pytest.mark.parametrize(("true", "expected"), [(0.0, "pass"), (0.1, "fail")])
def test_what_is_far_from_the_limit_is_decided_at_once(true: float, expected: str) -> None:
    values = list(np.random.default_rng(0).normal(true, 0.003, FIRST_LOOK))
    assert verdict(values, 0.05, 1, 0.01, 0.01) == expected


def test_a_few_disturbed_processes_do_not_keep_it_from_deciding() -> None:
    """Student's interval of these reaches from -0.6 to 1.3."""
    values = [*np.random.default_rng(0).normal(0.0, 0.003, 18), 1.5, 4.0]
    assert verdict(values, 0.05, 4, 0.01, 0.01) == "pass"


@pytest.mark.parametrize("heavy", [False, True])
def test_at_the_limit_itself_the_error_is_kept_over_all_looks(heavy: bool) -> None:
    """The hardest case, 600 gates of up to 60 processes. Looking with a fixed 1 % interval each time errs in 3 %."""
    rng = np.random.default_rng(1)
    wrong = 0
    for _ in range(600):
        noise = rng.standard_t(2, 60) if heavy else rng.normal(size=60)
        schedule = enumerate(looks(), 1)
        while (look := next(schedule))[1] <= 60:
            if verdict(list(noise[: look[1]]), 0.0, look[0], 1e-9, 0.01) == "fail":
                wrong += 1
                break
    assert stats.binomtest(wrong, 600, 0.01, alternative="greater").pvalue > 0.01
