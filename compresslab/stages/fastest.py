"""Choosing among stages that cannot be stopped early: each is made and measured, the fastest within the budget stays.

Speeds are ratios to the model that all start from, each measured interleaved with it. Where none is within the budget
the most accurate stays. The choice rests on a clock, so it is recorded, with all that it rests on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compresslab.errors import BadInput, ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from compresslab.candidate import Candidate
    from compresslab.stage import Assessment, Context, Stage


@dataclass(frozen=True)
class Rival:
    """A stage to try: what was chosen in it, and what to call that."""

    choice: Mapping[str, Any]
    name: str
    stage: Stage


@dataclass(frozen=True)
class Judged:
    """What the choice looks at: quality on validation, speed in times that of the parent, and the budget's verdict."""

    quality: float
    speedup: float
    within_budget: bool


def preferred(judged: Sequence[Judged]) -> int:
    """Which one to take: the fastest within the budget, else the most accurate; of equals the first."""
    places = range(len(judged))
    within = [place for place in places if judged[place].within_budget]
    if within:
        return max(within, key=lambda place: judged[place].speedup)
    return max(places, key=lambda place: judged[place].quality)


@dataclass(frozen=True)
class _Tried:
    """What a rival made, and how its last candidate, the one to prefer, was judged."""

    rival: Rival
    made: tuple[Candidate, ...]
    assessment: Assessment
    quality: float

    @property
    def judged(self) -> Judged:
        versus = self.assessment.measurement.versus_parent
        assert versus is not None, "a candidate is assessed against its parent"
        return Judged(self.quality, versus.speedup.value, self.assessment.budget.status == "pass")


def chosen_by_measuring(
    rivals: Sequence[Rival], candidate: Candidate, contexts: Sequence[Context]
) -> tuple[tuple[Candidate, ...], dict[str, Any]]:
    """What the fastest rival within the budget makes, else the most accurate one; and the record of the choice.

    A rival that is not for such a network (ModelError) is out, and said to be.

    Args:
        rivals: In the order that decides between equals.
        candidate: What all start from.
        contexts: One a rival, each with a scratch folder of its own.

    Raises:
        ModelError: No rival is for such a network.
    """
    tried: list[_Tried] = []
    records: list[dict[str, Any]] = []
    told: list[str] = []
    for rival, context in zip(rivals, contexts, strict=True):
        try:
            made = rival.stage.apply(candidate, context)
        except ModelError as error:
            records.append({**rival.choice, "refused": str(error)})
            told.append(f"{rival.name} refused: {error}")
            continue
        assessment = context.assess(made[-1])
        quality = assessment.measurement.quality["validation"][context.task.benchmark_metric].value
        tried.append(_Tried(rival, made, assessment, quality))
        records.append({**rival.choice, **_record(tried[-1])})
        told.append(f"{rival.name} {_told(tried[-1])}")
    if not tried:
        raise ModelError(f"none of what was to be tried is for this network: {'; '.join(told)}")
    best = tried[preferred([one.judged for one in tried])]
    fastest = best.judged.within_budget
    rule = "the fastest within the budget" if fastest else "the most accurate, as none is within the budget for certain"
    contexts[0].progress.note(f"tuning: {'; '.join(told)}. Chosen: {best.rival.name}, {rule}")
    return best.made, {"chosen": dict(best.rival.choice), "rule": rule, "tried": records}


def chosen_before(
    rivals: Sequence[Rival], candidate: Candidate, contexts: Sequence[Context], decided: Sequence[Mapping[str, Any]]
) -> tuple[tuple[Candidate, ...], dict[str, Any]]:
    """What the rival makes that an earlier run chose, and that run's record; nothing else is made or measured.

    Args:
        rivals: As for `chosen_by_measuring`.
        candidate: What it starts from.
        contexts: One a rival.
        decided: The decisions of each candidate that the choice gave then.

    Raises:
        BadInput: What was chosen then is not among the rivals.
    """
    record: Mapping[str, Any] = next(iter(decided), {}).get("tuned", {})
    place = next((n for n, one in enumerate(rivals) if dict(one.choice) == record.get("chosen")), None)
    if place is None:
        raise BadInput(
            f"the lock file says that {record.get('chosen') or 'nothing'} was chosen, but there is to choose from "
            f"{', '.join(one.name for one in rivals)}; leave `decided` out of it to decide anew"
        )
    contexts[place].progress.note(f"tuning: as the lock file says, {rivals[place].name}")
    return rivals[place].stage.apply(candidate, contexts[place]), dict(record)


def _record(one: _Tried) -> dict[str, Any]:
    measurement = one.assessment.measurement
    versus, kernels = measurement.versus_parent, measurement.integer_operators
    assert versus is not None, "a candidate is assessed against its parent"
    return {
        "validation": round(one.quality, 6),
        "speedup": [round(value, 3) for value in (versus.speedup.value, versus.speedup.low, versus.speedup.high)],
        "size_ratio": round(versus.size_ratio, 3),
        "integer_operators": [kernels.integer, kernels.eligible],
        "budget": one.assessment.budget.status,
        "violations": list(one.assessment.budget.violations),
    }


def _told(one: _Tried) -> str:
    measurement = one.assessment.measurement
    versus, kernels = measurement.versus_parent, measurement.integer_operators
    assert versus is not None, "a candidate is assessed against its parent"
    budget = {"pass": "within the budget", "fail": "over the budget", "inconclusive": "not within for certain"}
    low, high = versus.speedup.low, versus.speedup.high
    return (
        f"{one.quality:.4f} on validation, {versus.speedup.value:.2f}x [{low:.2f}, {high:.2f}] as fast, "
        f"{kernels.integer} of {kernels.eligible} in integers, {budget[one.assessment.budget.status]}"
    )
