from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from compresslab.measure.gate_budget import GateBudget
from compresslab.measure.gate_latency import Decision, LatencyLimit, Observation, decide, latency_limits

MEDIAN = LatencyLimit("p50_slower", 0.05, 0.5, relative=True)
TAIL = LatencyLimit("p90_slower", 0.05, 0.9, relative=True)
CALLS = 500


def budget(**keys: Any) -> GateBudget:
    return GateBudget.model_validate(keys)


def processes(*slower: float, noise: float = 0.002, seconds: float = 1.0, calls: int = CALLS) -> Iterator[Observation]:
    rng = np.random.default_rng(0)
    while True:
        yield Observation(tuple(math.log1p(one) + rng.normal(0.0, noise) for one in slower), calls, seconds)


def test_the_budget_becomes_limits_on_the_log_scale() -> None:
    found = {limit.key: limit for limit in latency_limits(budget(p90_ms=5.0, p50_slower=0.05, speedup=4.0, bytes=9))}
    assert {key: round(limit.bound, 4) for key, limit in found.items()} == {
        "p90_ms": 1.6094, "p50_slower": 0.0488, "speedup": -1.3863,
    }  # fmt: skip
    assert [limit.share for limit in latency_limits(budget(p50_ms=1.0, p90_ms=1.0, p99_ms=1.0))] == [0.5, 0.9, 0.99]


def test_a_process_says_the_log_of_a_quantile_or_of_two_quantiles_ratio() -> None:
    ours, base = np.full((4, 5), 3_000_000), np.full((4, 5), 2_000_000)
    assert MEDIAN.figure([ours, base]) == pytest.approx(math.log(1.5))
    assert LatencyLimit("p90_ms", 5.0, 0.9, relative=False).figure([ours]) == pytest.approx(math.log(3.0))
    slow_tail = ours.copy()
    slow_tail.flat[:4] = 30_000_000
    assert MEDIAN.figure([slow_tail, ours]) == 0.0
    assert TAIL.figure([slow_tail, ours]) == pytest.approx(math.log(10.0))


@pytest.mark.parametrize(
    ("slower", "statuses", "after"),
    [
        ((0.0, 0.0), ("pass", "pass"), 8),
        ((0.03, 0.03), ("pass", "pass"), 8),
        ((0.1, 0.1), ("fail", "fail"), 11),  # two limits share the error of a wrong fail
        ((0.0, 0.3), ("pass", "fail"), 11),  # only the tail
    ],
)
def test_clear_cases_are_decided_at_once(slower: tuple[float, float], statuses: tuple[str, str], after: int) -> None:
    found = decide([MEDIAN, TAIL], processes(*slower), 60.0)
    assert (found.statuses, found.processes, found.seconds) == (statuses, after, float(after))
    for estimate, true in zip(found.estimates, slower, strict=True):
        assert estimate is not None
        assert estimate.low <= true <= estimate.high


def test_it_measures_on_until_it_is_decided() -> None:
    looked: list[Decision] = []
    found = decide([MEDIAN], processes(0.03, noise=0.02), 200.0, watch=looked.append)
    assert found.statuses == ("pass",)
    assert found.processes == [one.processes for one in looked][-1] > 8


def test_out_of_time_it_says_that_it_does_not_know() -> None:
    found = decide([MEDIAN], processes(0.05, noise=0.02, seconds=2.0), 30.0)
    assert found.statuses == ("inconclusive",)
    assert 26.0 <= found.seconds <= 30.0
    assert found.spreads[0] == pytest.approx(0.67 * 0.02, rel=0.5)


def test_one_broken_limit_ends_it() -> None:
    found = decide([MEDIAN, TAIL], processes(0.1, 0.05, noise=0.004), 60.0)
    assert found.statuses == ("fail", "inconclusive")
    assert found.processes == 11


def test_what_passed_once_stays_passed() -> None:
    """Intervals are valid together, so a later look takes nothing back; without it both would have to pass at once."""
    settled = [(0.0, 0.05)] * 8
    wild = [(0.5, 0.05), (-0.5, 0.05)]

    rng = np.random.default_rng(0)

    def observed() -> Iterator[Observation]:
        for median, _ in settled + wild * 20:
            yield Observation((math.log1p(median), TAIL.bound + rng.normal(0.0, 0.01)), CALLS, 1.0)

    assert decide([MEDIAN, TAIL], observed(), 40.0).statuses[0] == "pass"


def test_eight_processes_are_the_least() -> None:
    """Though they agree: seven do not decide, and of six nothing is claimed."""
    six = decide([MEDIAN], processes(0.0, seconds=9.0), 60.0)
    assert (six.processes, six.statuses, six.estimates) == (6, ("inconclusive",), (None,))
    seven = decide([MEDIAN], processes(0.0, seconds=9.0), 70.0)
    assert (seven.processes, seven.statuses) == (7, ("inconclusive",))
    assert decide([MEDIAN], processes(0.0, seconds=9.0), 75.0).statuses == ("pass",)


def test_a_percentile_needs_calls_beyond_it() -> None:
    """Ten in all and one in each process; p99 of 50 calls is nothing but the largest."""
    limit = LatencyLimit("p99_ms", 5.0, 0.99, relative=False)
    few = decide([limit], processes(0.0, calls=50), 20.0)
    assert (few.statuses, few.estimates) == (("inconclusive",), (None,))
    assert decide([limit], processes(0.0, calls=200), 20.0).statuses == ("pass",)


def test_several_limits_share_the_error_of_a_wrong_fail_but_not_of_a_wrong_pass() -> None:
    """A value that is just over for one limit alone is not enough among ten; passing is as easy as alone."""
    over = [Observation((0.055 + step / 1000,), CALLS, 1.0) for step in range(-4, 4)]
    assert decide([MEDIAN], over, 8.0).statuses == ("fail",)
    assert decide([MEDIAN], over, 8.0, together=10).statuses == ("inconclusive",)
    within = [Observation((2 * MEDIAN.bound - one.figures[0],), CALLS, 1.0) for one in over]
    assert decide([MEDIAN], within, 8.0, together=10).statuses == ("pass",)


def test_a_speedup_is_shown_as_the_budget_says_it() -> None:
    limit = LatencyLimit("speedup", 4.0, 0.5, relative=True)
    found = decide([limit], processes(-0.8), 60.0)
    assert found.statuses == ("pass",)
    assert found.estimates[0] is not None
    assert found.estimates[0].low < 5.0 < found.estimates[0].high
    assert decide([limit], processes(-0.7), 60.0).statuses == ("fail",)
