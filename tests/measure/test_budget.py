from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from compresslab.errors import ConfigError
from compresslab.measure.budget import Budget, Limits, Status, check, too_loud, unmeasured
from compresslab.measure.gate_budget import GateBudget
from compresslab.measure.measurement import Estimate

if TYPE_CHECKING:
    from collections.abc import Callable

    from compresslab.measure.measurement import Measurement

    Make = Callable[..., Measurement]


def limits(**keys: Any) -> Budget:
    return Budget.model_validate(keys)


@pytest.mark.parametrize(
    ("keys", "status"),
    [
        ({"p50_ms": 0.112}, "pass"),  # measured 0.11 [0.109, 0.112]
        ({"p50_ms": 0.111}, "inconclusive"),
        ({"p50_ms": 0.1089}, "fail"),
        ({"p90_ms": 0.125}, "pass"),  # 0.12 [0.118, 0.125]
        ({"p90_ms": 0.121}, "inconclusive"),
        ({"p90_ms": 0.117}, "fail"),
        ({"p99_ms": 100.0}, "inconclusive"),  # too few calls at the deployment point
        ({"p99_ms": 1.3, "point": 1}, "pass"),  # 1.0 [0.95, 1.2]
        ({"p50_ms": 0.5, "point": 1}, "fail"),
        ({"bytes": 95_000}, "pass"),
        ({"bytes": 94_999}, "fail"),
        ({"size_ratio": 10.0}, "pass"),  # exactly 10
        ({"size_ratio": 10.1}, "fail"),
        ({"speedup": 3.9}, "pass"),  # 4.0 [3.9, 4.1]
        ({"speedup": 4.0}, "inconclusive"),
        ({"speedup": 4.2}, "fail"),
        ({"accuracy": 0.91}, "pass"),  # 0.92 [0.91, 0.93]
        ({"accuracy": 0.92}, "inconclusive"),
        ({"accuracy": 0.94}, "fail"),
        ({"accuracy_drop": 0.014}, "pass"),  # 0.01 [0.006, 0.014], on validation
        ({"accuracy_drop": 0.01}, "inconclusive"),
        ({"accuracy_drop": 0.005}, "fail"),
        ({"retention": {"toy/accuracy": 0.98}}, "pass"),  # 0.985 [0.98, 0.99], on validation
        ({"retention": {"toy/accuracy": 0.985}}, "inconclusive"),
        ({"retention": {"toy/accuracy": 0.995}}, "fail"),
        ({"peak_rss_mb": 61.7}, "pass"),
        ({"peak_rss_mb": 61.6}, "fail"),
        ({}, "pass"),
    ],
)
def test_a_limit_is_compared_with_the_whole_interval(
    keys: dict[str, Any], status: Status, make_measurement: Make
) -> None:
    result = check(limits(**keys), make_measurement(), 95_000)
    assert result.status == status
    assert len(result.violations) == (status != "pass")


@pytest.mark.parametrize(
    ("keys", "interval", "loud"),
    [
        ({"speedup": 10.0}, (15.5, 8.67, 21.0), True),
        ({"speedup": 15.5}, (15.5, 15.0, 16.0), False),  # at the limit, and well measured
        ({"speedup": 8.0}, (15.5, 8.67, 21.0), False),  # loud, but kept for certain
        ({"speedup": 25.0}, (15.5, 8.67, 21.0), False),  # loud, but missed for certain
        ({"accuracy": 0.92}, (15.5, 8.67, 21.0), False),  # open, but not a matter of time
    ],
)
def test_only_a_loud_machine_that_leaves_a_limit_on_time_open_is_asked_again(
    keys: dict[str, Any], interval: tuple[float, float, float], loud: bool, make_measurement: Make
) -> None:
    found = make_measurement()
    assert found.versus_baseline is not None
    found = replace(found, versus_baseline=replace(found.versus_baseline, speedup=Estimate(*interval)))
    assert too_loud(limits(**keys), found, 95_000) is loud
    assert not too_loud(None, found, 95_000)


def test_one_failure_fails_and_one_doubt_is_a_doubt(make_measurement: Make) -> None:
    doubtful = check(limits(p50_ms=0.111, bytes=95_000), make_measurement(), 95_000)
    assert (doubtful.status, len(doubtful.violations)) == ("inconclusive", 1)
    failed = check(limits(p50_ms=0.111, bytes=1), make_measurement(), 95_000)
    assert (failed.status, len(failed.violations)) == ("fail", 2)


def test_violations_say_what_was_asked_and_what_was_measured(make_measurement: Make) -> None:
    budget = limits(p50_ms=0.5, p90_ms=0.89, speedup=4.2, accuracy_drop=0.005, bytes=1, point=1)
    assert check(budget, make_measurement(), 95_000).violations == (
        "p50_ms: at most 0.5 (batch 8, 1 thread), but measured 0.8 [0.79, 0.81]: fail",
        "p90_ms: at most 0.89 (batch 8, 1 thread), but measured 0.9 [0.88, 0.92]: inconclusive",
        "bytes: at most 1, but measured 95,000: fail",
        "speedup: at least 4.2 (batch 1, 1 thread), but measured 4 [3.9, 4.1]: fail",
        "accuracy_drop: at most 0.005, but measured 0.01 [0.006, 0.014]: fail",
    )
    (unknown,) = check(limits(p99_ms=1.0), make_measurement(), 95_000).violations
    assert unknown.startswith(
        "p99_ms: at most 1 (batch 1, 1 thread), but too few calls were made to know; raise bench.min"
    )


def test_test_data_decides_nothing(make_measurement: Make) -> None:
    """What chooses reads validation, or the test figures reported for the chosen model would be too good."""
    terrible = make_measurement(
        quality={
            "validation": {"toy/accuracy": Estimate(0.92, 0.91, 0.93)},
            "test": {"toy/accuracy": Estimate(0.1, 0.1, 0.1)},
        },
        retention={"toy/accuracy": Estimate(0.1, 0.1, 0.1)},
    )
    budget = limits(accuracy=0.9, accuracy_drop=0.02, retention={"toy/accuracy": 0.97})
    assert check(budget, terrible, 1).status == "pass"


def test_the_baseline_compared_with_itself_loses_and_gains_nothing(make_measurement: Make) -> None:
    itself = make_measurement(versus_baseline=None, validation_delta=None)
    assert check(limits(speedup=1.0, size_ratio=1.0, accuracy_drop=0.0), itself, 1).status == "pass"
    assert check(limits(speedup=1.1), itself, 1).status == "fail"
    assert check(limits(size_ratio=1.1), itself, 1).status == "fail"


def test_no_budget_is_always_kept(make_measurement: Make) -> None:
    assert check(None, make_measurement(), 10**12).status == "pass"


def test_what_is_not_measured_is_told_before_anything_runs(make_measurement: Make) -> None:
    budget = limits(f1_macro=0.9, f1_macro_drop=0.01, retention={"toy/accurate": 0.9}, point=2)
    problems = unmeasured(budget, ["toy/accuracy"], points=2)
    assert problems == [
        ("f1_macro", "`f1_macro` is not measured, but `accuracy`; set the task's `metric` to `f1_macro`"),
        ("f1_macro_drop", "`f1_macro` is not measured, but `accuracy`; set the task's `metric` to `f1_macro`"),
        ("retention.toy/accurate", "is not measured, but `toy/accuracy`; did you mean `toy/accuracy`?"),
        ("point", "`point < 2` must hold, as bench has 2 points, but got 2"),
    ]
    with pytest.raises(ConfigError, match="budget: f1_macro: `f1_macro` is not measured"):
        check(budget, make_measurement(), 1)
    assert unmeasured(limits(accuracy=0.9, point=1), ["toy/accuracy"], points=2) == []


def test_scores_have_limits_too(make_measurement: Make) -> None:
    found = make_measurement(
        quality={"validation": {"toy/spearman": Estimate(0.8, 0.78, 0.82)}},
        validation_delta=Estimate(-0.02, -0.03, -0.01),
    )
    assert check(limits(spearman=0.77, spearman_drop=0.03), found, 1).status == "pass"
    assert check(limits(spearman=0.8), found, 1).status == "inconclusive"
    assert check(limits(spearman_drop=0.005), found, 1).status == "fail"
    assert check(limits(spearman=-0.5), found, 1).status == "pass"


def test_a_metric_of_other_answers_is_not_proposed() -> None:
    """Setting the task's metric to it, as for another metric of classes, would be refused."""
    (wrong,) = unmeasured(limits(spearman_drop=0.1), ["toy/accuracy"], 1)
    assert wrong[1].endswith("the task's answers are of another kind: limit one of `accuracy`, `f1_macro`")
    (wrong,) = unmeasured(limits(accuracy=0.9), ["toy/r2"], 1)
    assert wrong[1].endswith("the task's answers are of another kind: limit one of `spearman`, `pearson`, `r2`")
    (right,) = unmeasured(limits(pearson=0.9), ["toy/r2"], 1)
    assert right[1].endswith("set the task's `metric` to `pearson`")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"p90": 5}, "Extra inputs are not permitted"),
        ({"p90_ms": 0}, "greater than 0"),
        ({"p90_ms": "5"}, "valid number"),
        ({"accuracy": 91}, "less than or equal to 1"),
        ({"accuracy_drop": 1.3}, "less than or equal to 1"),
        ({"spearman": 78.0}, "less than or equal to 1"),
        ({"r2": 1.1}, "less than or equal to 1"),
        ({"bytes": 1.5}, "valid integer"),
        ({"point": -1}, "greater than or equal to 0"),
        ({"p50_ms": float("nan")}, "greater than 0|finite"),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused(keys: dict[str, Any], message: str) -> None:
    """An accuracy of 91 would be a budget that nothing can keep, and a drop of 1.3 one that all keep."""
    with pytest.raises(ValidationError, match=message):
        limits(**keys)


@pytest.mark.parametrize("kind", [Budget, GateBudget])
def test_agreement_with_the_teacher_cannot_be_limited(kind: type[Limits], make_measurement: Make) -> None:
    """A student that corrects its teacher disagrees with it: whoever gated on that would turn the better model away."""
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        kind.model_validate({"p50_ms": 1.0, "agreement_with_teacher": 0.9})
    hidden = limits(retention={"agreement_with_teacher": 0.9})
    with pytest.raises(ConfigError, match="is not measured, but `toy/accuracy`"):
        check(hidden, make_measurement(), 95_000)
    every = {"p50_ms": 0.2, "accuracy": 0.9, "accuracy_drop": 0.02, "retention": {"toy/accuracy": 0.9}, "speedup": 2.0}
    for share in (0.0, 1.0):
        assert check(limits(**every), make_measurement(agreement_with_teacher=share), 1).status == "pass"
