"""A task's benchmarks: measured beside test, each by itself, and with no say in what is chosen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from compresslab.errors import ConfigError
from compresslab.measure.bench import BenchSettings
from compresslab.measure.budget import Budget, check, unmeasured
from compresslab.measure.evaluate import Answers, EvalBenchmark, EvalSplit
from compresslab.measure.measurement import Estimate
from compresslab.measure.measuring import Measurer, _Labelled
from compresslab.measure.metrics import METRICS


@pytest.fixture
def with_benchmark(make_measurement):
    """A measurement whose model keeps 80 % of its teacher on a benchmark, and 98 % on its own split."""
    plain = make_measurement()
    test = {**plain.quality["test"], "shop/recall@10": Estimate(0.5, 0.4, 0.6, 100)}
    retention = {**plain.retention, "shop/recall@10": Estimate(0.8, 0.75, 0.85, 100)}
    return replace(plain, quality={**plain.quality, "test": test}, retention=retention)


@pytest.mark.parametrize(("limit", "status"), [(0.7, "pass"), (0.8, "inconclusive"), (0.9, "fail")])
def test_a_loss_is_below_a_limit_only_where_its_whole_interval_is(with_benchmark, limit, status):
    budget = Budget(retention={"shop/recall@10": limit, "toy/accuracy": 0.5})
    found = check(budget, with_benchmark, 1000)
    assert found.status == status
    assert check(budget.choosing(["shop/recall@10"]), with_benchmark, 1000).status == "pass"
    assert budget.choosing(["shop/recall@10"]).retention == {"toy/accuracy": 0.5}


def test_one_without_answers_of_the_teacher_is_not_known(with_benchmark):
    blind = replace(with_benchmark, retention={})
    found = check(Budget(retention={"shop/recall@10": 0.5}), blind, 1000)
    assert found.violations == (
        "retention.shop/recall@10: at least 0.5, but the teacher has no answers there, or none that are right: "
        "inconclusive",
    )


def test_a_name_that_is_no_benchmark_is_told(with_benchmark):
    budget = Budget(retention={"shop/recall@1": 0.5})
    with pytest.raises(ConfigError, match=r"retention.shop/recall@1: is not measured.*did you mean `shop/recall@10`"):
        check(budget, with_benchmark, 1000)
    ((_, message),) = unmeasured(Budget(accuracy=0.5), ("own/recall@10",), 1, ("shop/accuracy",))
    assert "the task's answers are embeddings: limit `retention`" in message, "a benchmark's accuracy is not the task's"


@pytest.fixture
def measurer(monkeypatch):
    """Of embeddings that were answered beforehand, by digest and set."""
    random = np.random.default_rng(0)
    targets = np.concatenate([-(np.arange(20) + 1), np.arange(20)])
    centres = random.normal(size=(20, 6))[np.where(targets < 0, -(targets + 1), targets)]
    rows = np.zeros((40, 2), np.float32)
    splits = [EvalSplit(name, rows, targets) for name in ("validation", "test")]
    made = Measurer(splits, "own", "recall@5", BenchSettings(), [EvalBenchmark("shop", rows, targets, "recall@1")])

    def answered(noise: float, seed: int) -> np.ndarray:
        return (centres + np.random.default_rng(seed).normal(0, noise, centres.shape)).astype(np.float32)

    return made, answered


class Digest:
    def __init__(self, digest):
        self.digest = digest


def test_queries_look_among_the_teachers_documents_where_widths_are_equal(measurer):
    made, answered = measurer
    (shop,) = made._benchmarks
    ours, theirs = answered(0.8, 1), answered(0.3, 2)
    student = Digest("student")
    made._outputs = {("student", id(shop.inputs)): ours}
    teacher = Answers("teacher", {shop.name: theirs})
    found = made._against_teacher_index(student, teacher, (shop,))["shop/recall@1"]
    mixed = np.concatenate([ours[:20], theirs[20:]])
    assert found.quality.value == METRICS["recall@1"].value(mixed, shop.targets)
    assert found.retention.value == pytest.approx(found.quality.value / METRICS["recall@1"].value(theirs, shop.targets))
    narrower = Answers("teacher", {shop.name: theirs[:, :4]})
    assert made._against_teacher_index(student, narrower, (shop,)) == {}
    assert list(made._retention(student, narrower, (shop,))) == ["shop/recall@1"], "retention needs no equal widths"
    assert made._against_teacher_index(student, Answers("teacher", {}), (shop,)) == {}
    assert isinstance(shop, _Labelled)
    assert (shop.retrieval, shop.classes) == (True, False)
