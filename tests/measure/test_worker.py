"""The measuring loop, on models that only pretend to take time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any

import pytest

from compresslab.measure import worker

JOB: Any = {"min_seconds": 0.0, "min_count": 1, "max_seconds": 1000.0}
MS = 1_000_000


@dataclass
class Pretender:
    """Takes the times it is told to, and writes down when it was called and how often."""

    name: str = "a"
    times: Iterator[int] = field(default_factory=lambda: repeat(MS))
    log: list[tuple[str, int]] = field(default_factory=list)

    def time(self, calls: int) -> list[int]:
        self.log.append((self.name, calls))
        return [next(self.times) for _ in range(calls)]


def test_models_are_visited_there_and_back() -> None:
    """A B C C B A: a machine that slows down steadily slows all of them alike."""
    log: list[tuple[str, int]] = []
    models = [Pretender(name, log=log) for name in "abc"]
    recorded = worker._interleave(models, [5, 5, 5], JOB)
    recording = [name for name, calls in log if calls == 5]
    assert recording[:6] == list("abccba")
    assert recording == list("abccba") * len(recorded[0])


def test_the_first_call_after_another_model_is_not_recorded() -> None:
    """It pays for the caches that the other model filled."""
    model = Pretender(times=iter([9 * MS, MS, MS] * 1000))
    recorded = worker._interleave([model], [2], JOB)
    assert {time for calls in recorded[0] for time in calls} == {MS}


def test_every_round_has_two_visits_and_models_share_rounds() -> None:
    recorded = worker._interleave([Pretender(), Pretender()], [5, 3], JOB)
    assert len(recorded[0]) == len(recorded[1]) >= worker._MIN_ROUNDS
    assert {len(calls) for calls in recorded[0]} == {10}
    assert {len(calls) for calls in recorded[1]} == {6}


@pytest.mark.parametrize(
    ("limits", "calls"),
    [
        ({"min_count": 1000}, 1000),
        ({"min_seconds": 0.5}, 500),
        ({"min_seconds": 0.5, "min_count": 1000}, 1000),
        ({"min_seconds": 1.5, "min_count": 1000}, 1500),
        ({"min_seconds": 1.5, "min_count": 10**9, "max_seconds": 2.0}, 2000),
    ],
)
def test_it_measures_until_both_the_time_and_the_count_are_reached(limits: dict[str, Any], calls: int) -> None:
    """Calls of 1 ms, ten a round; the longest time ends it in any case."""
    recorded = worker._interleave([Pretender()], [5], {**JOB, **limits})
    assert sum(map(len, recorded[0])) == calls


def test_it_goes_on_until_the_last_model_has_enough() -> None:
    fast, slow = Pretender(times=repeat(MS // 10)), Pretender(times=repeat(MS))
    recorded = worker._interleave([fast, slow], [50, 5], {**JOB, "min_seconds": 0.1, "min_count": 300})
    assert sum(map(len, recorded[1])) >= 300


def test_warming_up_ends_when_it_gets_no_faster() -> None:
    steady = Pretender()
    worker._warm_up(steady, seconds=100.0)
    cold = Pretender(times=iter([int(MS * max(1.0, 20.0 - call / 10.0)) for call in range(10_000)]))
    worker._warm_up(cold, seconds=100.0)
    assert sum(calls for _, calls in cold.log) > 190, "it stopped while the model was still getting faster"
    assert sum(calls for _, calls in steady.log) < 50


def test_warming_up_is_bounded() -> None:
    endless = Pretender(times=iter(int(MS * 0.9**call) + 1 for call in range(10**6)))
    worker._warm_up(endless, seconds=0.0)
    assert endless.log == [("a", 1)]


@pytest.mark.parametrize(("nanoseconds", "calls"), [(1000, 1000), (50_000, 100), (MS, 5), (4 * MS, 2), (50 * MS, 1)])
def test_a_visit_holds_calls_of_some_milliseconds(nanoseconds: int, calls: int) -> None:
    assert worker._warm_up(Pretender(times=repeat(nanoseconds)), seconds=1.0) == calls
