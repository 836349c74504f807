from __future__ import annotations

import itertools
from typing import Literal

import pytest

from compresslab.measure.frontier import FrontierPoint, frontier, select, ties

BASELINE = FrontierPoint("baseline", 0.64, 2_828_000, 0.937, "fail")
DISTILLED = FrontierPoint("distilled", 0.10, 339_000, 0.928, "inconclusive")
PRUNED = FrontierPoint("pruned", 0.08, 200_000, 0.925, "pass")
QUANTIZED = FrontierPoint("quantized", 0.06, 95_000, 0.924, "pass")
WORSE = FrontierPoint("worse", 0.09, 200_000, 0.920, "pass")
ALL = (BASELINE, DISTILLED, PRUNED, QUANTIZED, WORSE)


def test_the_frontier_is_what_none_dominates_fastest_first() -> None:
    for order in itertools.permutations(ALL):
        assert frontier(order) == ("quantized", "pruned", "distilled", "baseline")


def test_being_better_in_one_thing_is_enough_to_stay() -> None:
    slow_small = FrontierPoint("small", 9.0, 1, 0.0)
    assert set(frontier([BASELINE, slow_small])) == {"baseline", "small"}


def test_equal_points_both_stay() -> None:
    twin = FrontierPoint("twin", QUANTIZED.p50_ms, QUANTIZED.bytes, QUANTIZED.quality)
    assert frontier([QUANTIZED, twin]) == ("quantized", "twin")


def test_no_points_have_no_frontier() -> None:
    assert frontier([]) == ()


@pytest.mark.parametrize(
    ("policy", "expected"), [("smallest", "quantized"), ("fastest", "quantized"), ("most_accurate", "pruned")]
)
def test_the_policy_chooses_among_what_is_within_budget(
    policy: Literal["smallest", "fastest", "most_accurate"], expected: str
) -> None:
    assert select(ALL, policy) == expected


def test_what_may_be_within_budget_is_chosen_only_when_nothing_is_for_certain() -> None:
    assert select([BASELINE, DISTILLED], "most_accurate") == "distilled"
    assert select([DISTILLED, WORSE], "most_accurate") == "worse"


def test_nothing_is_chosen_when_all_are_over_budget() -> None:
    assert select([BASELINE], "smallest") is None
    assert select([], "smallest") is None


def test_ties_go_to_the_other_two() -> None:
    slow = FrontierPoint("slow", 0.5, 95_000, 0.99)
    assert select([slow, QUANTIZED], "smallest") == "quantized"


def test_domination_needs_the_intervals_to_agree() -> None:
    """The second is worse by its figures, and by less than noise."""
    one = FrontierPoint("one", 0.100, 9000, 0.93, "pass", (0.098, 0.102), (0.92, 0.94))
    other = FrontierPoint("other", 0.101, 9000, 0.92, "pass", (0.099, 0.103), (0.91, 0.93))
    assert frontier([one, other]) == ("one", "other")
    assert ties([one, other]) == (("one", "other"),)
    exact = [FrontierPoint(point.id, point.p50_ms, point.bytes, point.quality) for point in (one, other)]
    assert frontier(exact) == ("one",)
    assert ties(exact) == ()


@pytest.mark.parametrize(
    "better",
    [
        FrontierPoint("better", 0.090, 9000, 0.93, "pass", (0.088, 0.092), (0.92, 0.94)),
        FrontierPoint("better", 0.100, 8999, 0.93, "pass", (0.098, 0.102), (0.92, 0.94)),
        FrontierPoint("better", 0.100, 9000, 0.96, "pass", (0.098, 0.102), (0.95, 0.97)),
    ],
)
def test_one_certain_advantage_dominates_where_the_rest_is_no_worse(better: FrontierPoint) -> None:
    worse = FrontierPoint("worse", 0.101, 9000, 0.92, "pass", (0.099, 0.103), (0.91, 0.93))
    assert frontier([worse, better]) == ("better",)


def test_equal_points_are_no_tie() -> None:
    twin = FrontierPoint("twin", QUANTIZED.p50_ms, QUANTIZED.bytes, QUANTIZED.quality)
    assert ties([QUANTIZED, twin]) == ()
