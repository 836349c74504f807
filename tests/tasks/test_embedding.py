from itertools import combinations

import numpy as np
import pytest
from pydantic import ValidationError

from compresslab.errors import DataError
from compresslab.measure.groups import groups_of
from compresslab.models import Signature
from compresslab.tasks import Embeddings, EmbeddingTask, TaskSpec
from compresslab.testing import grouped

DATA = grouped(groups=100)


@pytest.fixture
def write(tmp_path):
    """Writes .npz files, the task's and its benchmarks', and returns what a pipeline would say of them."""

    def written(data=DATA, benchmarks=None, **settings):
        np.savez(tmp_path / "own.npz", **data)
        told = {}
        for name, (arrays, metric) in (benchmarks or {}).items():
            np.savez(tmp_path / f"{name}.npz", **arrays)
            told[name] = {"npz": str(tmp_path / f"{name}.npz"), "metric": metric}
        plain = {"npz": str(tmp_path / "own.npz"), "width": 8, "benchmarks": told, **settings}
        return EmbeddingTask.model_validate(plain)

    return written


def test_groups_are_never_parted(write):
    task = write().load()
    assert (task.kind, task.labels, task.target, task.outputs, task.columns) == ("embedding", (), None, 8, None)
    assert task.objective == Embeddings(8)
    assert task.signature == Signature("features", 16, 8, any_width=True)
    assert task.benchmark_metric == "own/recall@10"
    sizes = {name: len(split.inputs) for name, split in task.splits.items()}
    assert sizes == {"train": 210, "calibration": 15, "validation": 30, "test": 45}
    for one, other in combinations(task.splits.values(), 2):
        assert not set(groups_of(one.targets)) & set(groups_of(other.targets))
    for split in task.splits.values():
        groups = groups_of(split.targets)
        assert (np.diff(groups) != 0).sum() == len(set(groups)) - 1, "side by side: any part is a part of the groups"
        np.testing.assert_array_equal(split.inputs, DATA["features"][split.rows])
        np.testing.assert_array_equal(split.targets, DATA["groups"][split.rows])
    rows = task.spread("test", 12)
    assert len(set(groups_of(task.splits["test"].targets[rows]))) * 3 == len(rows) == 12


def test_the_order_of_the_source_changes_rows_and_nothing_else(write):
    order = np.random.default_rng(0).permutation(300)
    one = write().load()
    assert write({name: array[order] for name, array in DATA.items()}).load().digest == one.digest


def test_groups_that_share_a_sample_are_one(write):
    """Else a copy would be right in one split and wrong in another."""
    data = {"features": DATA["features"].copy(), "groups": DATA["groups"]}
    data["features"][4] = data["features"][1]
    task = write(data).load()
    assert "1 training groups share samples with others, and were taken for one with them" in task.notes
    assert any(np.bincount(groups_of(split.targets)).max() == 6 for split in task.splits.values())


def test_benchmarks_are_part_of_the_task_and_tell_what_they_are(write):
    other = grouped(groups=30, seed=1)
    shop = {"features": other["features"], "groups": other["groups"].copy()}
    shop["groups"][3] = 1  # what was a query is a document, so that nobody asks for its group
    shop["features"] = np.concatenate([shop["features"], DATA["features"]])
    shop["groups"] = np.concatenate([shop["groups"], np.abs(DATA["groups"]) + 1000])
    pairs = {"features": other["features"][:40], "scores": np.repeat(np.arange(20.0), 2)}
    task = write(benchmarks={"shop": (shop, "ndcg@10"), "human": (pairs, "similarity")}).load()
    assert task.benchmark_metrics == ("shop/ndcg@10", "human/similarity")
    assert {name: len(inputs) for name, inputs in task.sample_sets.items()} == {
        "shop/queries": 29, "shop/documents": 361, "human/samples": 40,
    }  # fmt: skip
    assert (
        "`shop`: 303 of 361 documents are of a group without a query; they can only be found by mistake" in task.notes
    )
    assert any(
        "`shop`: of 390 samples 210 in `train`, 15 in `calibration`, 30 in `validation`" in x for x in task.notes
    )
    without = write().load()
    assert task.digest != without.digest
    changed = {**pairs, "scores": np.repeat(np.arange(20.0)[::-1], 2)}
    assert write(benchmarks={"shop": (shop, "ndcg@10"), "human": (changed, "similarity")}).load().digest != task.digest


def test_training_data_without_groups_is_distilled_only(write):
    parts = {f"{part}_{name}": array for part, seed in (("validation", 1), ("test", 2))
             for name, array in grouped(groups=20, seed=seed).items()}  # fmt: skip
    task = write({"features": DATA["features"], **parts}).load()
    assert task.splits["train"].targets is None
    assert task.splits["test"].targets is not None
    with pytest.raises(DataError, match="have no groups, so `validation` and `test` cannot be taken from them"):
        write({"features": DATA["features"]}).load()


def test_what_cannot_be_measured_is_told_before_anything_is_trained(write):
    lonely = {"features": DATA["features"][:3], "groups": np.array([-1, 0, -9])}
    for benchmarks, message in (
        (
            {"shop": (lonely, "recall@1")},
            r"`benchmarks.shop`: 1 of 2 queries have no document of their gr",
        ),
        ({"own": (DATA, "recall@1")}, "`benchmarks.own` has the name of the task"),
        ({"shop": (lonely, "similarity")}, "`benchmarks.shop`: `similarity` needs pairs"),
        ({"shop": ({"features": DATA["features"]}, "recall@1")}, "of `recall@1` needs `groups`"),
        (
            {"shop": ({"features": DATA["features"][:, :4], "groups": DATA["groups"]}, "recall@1")},
            "4 features a sample",
        ),
    ):
        with pytest.raises(DataError, match=message):
            write(benchmarks=benchmarks).load()
    for data, message in (
        ({**DATA, "groops": DATA["groups"]}, r"unknown part `groops`; did you mean `groups`"),
        ({"groups": DATA["groups"]}, "has no `features`"),
        ({**DATA, "test_groups": DATA["groups"]}, "there is `test_groups`, but no `test_features`"),
        ({**DATA, "groups": DATA["groups"].astype(float)}, "groups must be whole numbers"),
        ({**DATA, "groups": DATA["groups"][:9]}, "300 samples, but 9 groups"),
    ):
        with pytest.raises(DataError, match=message):
            write(data).load()


def test_settings(write):
    spec = TaskSpec(embedding=write(metric="ndcg@10"))
    assert TaskSpec.model_validate(spec.model_dump(mode="json")) == spec
    with pytest.raises(ValidationError, match="Input should be 'recall@1'"):
        write(metric="accuracy")
