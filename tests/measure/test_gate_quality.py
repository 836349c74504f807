from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from compresslab.errors import ConfigError
from compresslab.measure.evaluate import EvalSplit
from compresslab.measure.gate_budget import GateBudget
from compresslab.measure.gate_quality import measured_quality, quality_keys, recorded_quality
from compresslab.measure.quality import mcnemar

if TYPE_CHECKING:
    from collections.abc import Callable

    from compresslab.measure.artifact import Artifact
    from compresslab.measure.measurement import Measurement

    MakeArtifact = Callable[..., Artifact]
    MakeSplits = Callable[[int, int], tuple[EvalSplit, EvalSplit]]


def budget(**keys: Any) -> GateBudget:
    return GateBudget.model_validate(keys)


def checked(found: list) -> list[tuple[str, str]]:
    return [(check.key, check.status) for check in found]


def test_quality_is_measured_on_the_same_examples(
    make_artifact: MakeArtifact, make_splits: MakeSplits, right: np.ndarray, wrong_on_2: np.ndarray
) -> None:
    """The model knows two of three classes, the baseline all."""
    split, _ = make_splits(600, 1)
    this, baseline = make_artifact("this", wrong_on_2), make_artifact("baseline", right)
    limits = budget(accuracy=0.5, accuracy_drop=0.01, f1_macro=0.9, f1_macro_drop=0.5)
    found = measured_quality(limits, this, baseline, split, 4)
    assert checked(found) == [
        ("accuracy", "pass"), ("accuracy_drop", "fail"), ("f1_macro", "fail"), ("f1_macro_drop", "pass"),
    ]  # fmt: skip
    lost = int((split.targets == 2).sum())
    assert found[1].why.startswith(f"{lost} examples lost, 0 won of 600; McNemar p = ")
    assert found[1].found is not None
    assert found[1].found.value == pytest.approx(lost / 600)


def test_the_same_model_is_not_inferior_to_itself_but_a_margin_of_nothing_is_never_proven(
    make_artifact: MakeArtifact, make_splits: MakeSplits, right: np.ndarray
) -> None:
    split, _ = make_splits(1500, 1)
    this, twin = make_artifact("this", right), make_artifact("twin", right * 2)
    assert checked(measured_quality(budget(accuracy_drop=0.01), this, twin, split, 1)) == [("accuracy_drop", "pass")]
    (nothing,) = measured_quality(budget(accuracy_drop=0.0), this, twin, split, 1)
    assert nothing.status == "inconclusive"
    assert nothing.why.endswith("McNemar p = 1; more examples are needed to tell")


def test_few_examples_do_not_decide(make_artifact: MakeArtifact, make_splits: MakeSplits, right: np.ndarray) -> None:
    split, _ = make_splits(20, 1)
    (found,) = measured_quality(budget(accuracy=0.95), make_artifact("this", right), None, split, 1)
    assert (found.status, found.why) == ("inconclusive", "more examples are needed to tell")


def test_scores_are_gated_by_how_they_follow_their_targets(make_artifact: MakeArtifact, right: np.ndarray) -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (400, 4, 4, 1), np.uint8)
    baseline = make_artifact("baseline", right[:, :1])
    this = make_artifact("this", right[:, :1] + 0.2 * right[:, 1:2])
    targets = images[:, :, 0].sum(axis=(1, 2)).astype(np.float32)
    split = EvalSplit("data", images, targets)
    found = measured_quality(budget(pearson=0.9, pearson_drop=0.05, spearman_drop=0.001), this, baseline, split, 3)
    assert checked(found) == [("spearman_drop", "fail"), ("pearson", "pass"), ("pearson_drop", "pass")]
    assert found[2].why == "paired on 400 examples"
    with pytest.raises(ConfigError, match="accuracy_drop: the model's answers are of another kind; limit one of `spea"):
        measured_quality(budget(accuracy_drop=0.1), this, baseline, split, 1)


def test_classes_are_not_gated_by_scores(
    make_artifact: MakeArtifact, make_splits: MakeSplits, right: np.ndarray
) -> None:
    with pytest.raises(
        ConfigError, match="r2: the model's answers are of another kind; limit one of `accuracy`, `f1_m"
    ):
        measured_quality(budget(r2=0.5), make_artifact("this", right), None, make_splits(20, 1)[0], 1)


def test_mcnemar_counts_those_that_only_one_has_right() -> None:
    """Of 10 examples on which they differ, 9 are lost: twice the binomial's tail of 1 in 10."""
    targets = np.zeros(30, np.int64)
    good, bad = np.float32([[1, 0]]), np.float32([[0, 1]])
    this = np.concatenate([np.repeat(good, 20, 0), np.repeat(bad, 9, 0), good])
    other = np.concatenate([np.repeat(good, 29, 0), bad])
    won, lost, chance = mcnemar(this, other, targets)
    assert (won, lost) == (1, 9)
    assert chance == pytest.approx(2 * 11 / 1024)
    assert mcnemar(this, this, targets) == (0, 0, 1.0)


def test_without_data_the_runs_own_validation_figures_are_read(make_measurement: Callable[..., Measurement]) -> None:
    limits = budget(accuracy=0.9, accuracy_drop=0.005, retention={"toy/accuracy": 0.985})
    found = recorded_quality(limits, make_measurement())
    assert checked(found) == [
        ("accuracy", "pass"), ("accuracy_drop", "fail"), ("retention.toy/accuracy", "inconclusive"),
    ]  # fmt: skip
    assert quality_keys(limits) == ("accuracy", "accuracy_drop", "retention.toy/accuracy")
    with pytest.raises(ConfigError, match="f1_macro: the run measured `accuracy`; give --data to measure it"):
        recorded_quality(budget(f1_macro=0.9), make_measurement())
    with pytest.raises(ConfigError, match=r"retention.toy/acc: .*did you mean `toy/accuracy`\?; give --data"):
        recorded_quality(budget(retention={"toy/acc": 0.9}), make_measurement())
