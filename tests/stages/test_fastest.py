"""Choosing by measuring, with stages that only say how good and how fast they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from compresslab.digest import digest_of
from compresslab.errors import BadInput, ModelError, StageFailed
from compresslab.measure.budget import BudgetResult
from compresslab.measure.measurement import Estimate, IntegerOperators, Measurement, Versus
from compresslab.stage import Assessment
from compresslab.stages import Distill, Quantize, Tuned
from compresslab.stages.tuned import Variant
from compresslab.testing import context, tiny_candidate, tiny_task


@dataclass(frozen=True)
class Scripted:
    """A quantizer of a quality, a speed and a verdict; or one that is not for such a network."""

    name: str
    quality: float = 0.9
    speed: float = 1.0
    budget: str = "pass"
    error: Exception | None = None
    attempts: int = 1
    kind: str = "quantize"
    version: int = 1
    log: list[str] = field(default_factory=list, compare=False)

    def model_dump(self, *, mode: str = "python") -> dict[str, Any]:
        return {"backend": self.name}

    def apply(self, candidate, given):
        self.log.append(f"{self.name} {given.scratch.name}")
        if self.error is not None:
            raise self.error
        return tuple(
            candidate.then(candidate.network, given.step(self, {"rival": self.name}, attempt))
            for attempt in range(self.attempts)
        )


def choose(folder, *rivals):
    """What a competition gives, its notes, and which candidates were measured."""
    task = tiny_task(folder)
    by_name = {rival.name: rival for rival in rivals}
    measured = []

    def assess(candidate):
        rival = by_name[candidate.lineage[-1].decisions["rival"]]
        measured.append(candidate.digest)
        speed = Estimate(rival.speed, rival.speed - 0.1, rival.speed + 0.1)
        quality = {"validation": {task.benchmark_metric: Estimate(rival.quality, 0.0, 1.0)}}
        versus = Versus(speed, 3.5, Estimate(0.0, 0.0, 0.0), "faster")
        measurement = Measurement(quality, (), 1.0, {}, integer_operators=IntegerOperators(9, 6), versus_parent=versus)
        violations = () if rival.budget == "pass" else ("accuracy_drop: too much",)
        return Assessment(measurement, BudgetResult(rival.budget, violations))

    given = replace(context(folder, task), assess=assess)
    tuned = Tuned(tuple(Variant({("backend",): rival.name}, rival) for rival in rivals))
    return tuned, tuned.apply(tiny_candidate(), given), given.progress.notes, measured


def decided(made) -> Mapping[str, Any]:
    return made[-1].lineage[-1].decisions["tuned"]


def test_the_fastest_within_the_budget_stays(tmp_path):
    """Not the fastest of all, and not the most accurate."""
    rivals = [
        Scripted("accurate", 0.95, 1.5), Scripted("fast", 0.9, 2.5), Scripted("fastest", 0.5, 4.0, "fail"),
        Scripted("perhaps", 0.89, 3.0, "inconclusive"),
    ]  # fmt: skip
    _, made, notes, _ = choose(tmp_path, *rivals)
    assert decided(made)["chosen"] == {"backend": "fast"}
    assert decided(made)["rule"] == "the fastest within the budget"
    assert made[0].lineage[-1].decisions["rival"] == "fast"
    assert notes[-1].endswith("Chosen: backend fast, the fastest within the budget")
    assert "backend fastest 0.5000 on validation, 4.00x [3.90, 4.10] as fast, 6 of 9 in integers, over" in notes[-1]


def test_where_none_is_within_the_budget_the_most_accurate_stays(tmp_path):
    rivals = [Scripted("fast", 0.8, 3.0, "fail"), Scripted("accurate", 0.9, 1.1, "fail")]
    _, made, notes, _ = choose(tmp_path, *rivals)
    assert decided(made)["chosen"] == {"backend": "accurate"}
    assert notes[-1].endswith("the most accurate, as none is within the budget for certain")


def test_of_equals_the_first_that_was_named_stays(tmp_path):
    _, made, _, _ = choose(tmp_path, Scripted("a"), Scripted("b"))
    assert decided(made)["chosen"] == {"backend": "a"}


def test_all_that_the_choice_rests_on_is_recorded(tmp_path):
    """A clock decided: another day it may decide otherwise, and then this must say why it did."""
    refusing = Scripted("no", error=ModelError("not for such a network"))
    _, made, _, _ = choose(tmp_path, Scripted("a", 0.9123456789, 2.0), refusing, Scripted("b", 0.8, 3.0, "fail"))
    found = decided(made)
    assert found["tried"] == [
        {"backend": "a", "validation": 0.912346, "speedup": [2.0, 1.9, 2.1], "size_ratio": 3.5,
         "integer_operators": [6, 9], "budget": "pass", "violations": []},
        {"backend": "no", "refused": "not for such a network"},
        {"backend": "b", "validation": 0.8, "speedup": [3.0, 2.9, 3.1], "size_ratio": 3.5,
         "integer_operators": [6, 9], "budget": "fail", "violations": ["accuracy_drop: too much"]},
    ]  # fmt: skip
    digest_of(dict(found))


def test_each_works_in_a_folder_of_its_own_and_its_last_attempt_is_judged(tmp_path):
    first, second = Scripted("a", speed=2.0, attempts=3), Scripted("b")
    _, made, _, measured = choose(tmp_path, first, second)
    assert (first.log, second.log) == (["a variant0"], ["b variant1"])
    assert len(made) == 3, "all that the winner made goes on"
    assert measured[0] == made[-1].digest
    assert all(decided([one])["chosen"] == {"backend": "a"} for one in made)


def test_what_a_lock_file_says_is_followed_and_not_measured_again(tmp_path):
    """Another day's clock might choose another. The record stays that of the run that measured."""
    rivals = [Scripted("slow", speed=1.0), Scripted("fast", speed=2.0, attempts=2)]
    tuned, made, _, _ = choose(tmp_path, *rivals)
    kept = tuple(dict(one.lineage[-1].decisions) for one in made)
    given = replace(context(tmp_path, tiny_task(tmp_path)), decided=kept)
    rivals[0].log.clear()
    again = tuned.apply(tiny_candidate(), replace(given, assess=lambda _: pytest.fail("measured again")))
    assert [dict(one.lineage[-1].decisions) for one in again] == list(kept)
    assert rivals[0].log == []
    assert given.progress.notes == ["tuning: as the lock file says, backend fast"]


@pytest.mark.parametrize("decided", [(), ({"mode": "ptq"},), ({"tuned": {"chosen": {"backend": "other"}}},)])
def test_a_lock_file_that_chose_something_else_is_refused(decided, tmp_path):
    tuned = Tuned(tuple(Variant({("backend",): name}, Scripted(name)) for name in "ab"))
    given = replace(context(tmp_path, tiny_task(tmp_path)), decided=decided)
    with pytest.raises(BadInput, match="but there is to choose from backend a, backend b; leave `decided` out"):
        tuned.apply(tiny_candidate(), given)


def test_where_all_are_refused_that_is_an_error(tmp_path):
    rivals = [Scripted(name, error=ModelError(f"{name} cannot")) for name in "ab"]
    with pytest.raises(ModelError, match="none of what was to be tried is for this network: backend a refused: a can"):
        choose(tmp_path, *rivals)


def test_a_failure_is_not_a_refusal(tmp_path):
    with pytest.raises(StageFailed, match="the disk burns"):
        choose(tmp_path, Scripted("a", error=StageFailed("the disk burns")), Scripted("b"))


def test_only_what_cannot_be_stopped_is_measured():
    """The cache's key must hold budget and machine where they decide, and must not where they do not."""
    quantizers = Tuned(tuple(Variant({("backend",): name}, Quantize(backend=name)) for name in ("own", "dynamic")))
    trainings = Tuned(tuple(Variant({("temperature",): one}, Distill(epochs=1, temperature=one)) for one in (1.0, 2.0)))
    assert (quantizers.assesses, trainings.assesses) == (True, False)
    assert quantizers.model_dump(mode="json")["backend"] == {"tune": ["own", "dynamic"]}
