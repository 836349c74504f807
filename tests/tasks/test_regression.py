from itertools import combinations

import numpy as np
import pytest
from pydantic import ValidationError

from compresslab.data.features import Features
from compresslab.errors import DataError
from compresslab.models import Signature
from compresslab.tasks import Regression, Score, TaskSpec

RANDOM = np.random.default_rng(0)
FEATURES = RANDOM.normal(3.0, [1.0, 2.0, 5.0], (400, 3)).astype(np.float32)
TARGETS = np.exp(RANDOM.normal(0.0, 1.0, 400)).astype(np.float32)


@pytest.fixture
def write(tmp_path):
    """Writes an .npz file and returns what a pipeline would say of it."""

    def written(features=FEATURES, targets=TARGETS, settings=None, **parts):
        np.savez(tmp_path / "own.npz", features=features, targets=targets, **parts)
        return Regression(npz=str(tmp_path / "own.npz"), **(settings or {}))

    return written


@pytest.fixture
def load(write):
    return lambda *arguments, **parts: write(*arguments, **parts).load()


def sizes(task):
    return {name: len(split.inputs) for name, split in task.splits.items()}


def rows_of(inputs: Features) -> set[bytes]:
    return {row.tobytes() for row in inputs}


def test_all_splits_are_carved_from_one_table(load):
    task = load()
    assert sizes(task) == {"train": 280, "calibration": 20, "validation": 40, "test": 60}
    assert (task.name, task.benchmark_metric, task.kind, task.labels) == ("own", "own/spearman", "regression", ())
    for one, other in combinations(task.splits.values(), 2):
        assert not rows_of(one.inputs) & rows_of(other.inputs)


def test_samples_keep_their_targets_and_their_rows_in_the_source(load):
    """Answers given as arrays are in the source's order: a wrong row is another sample's answer."""
    for split in load().splits.values():
        assert split.part == "train"
        np.testing.assert_array_equal(split.inputs, FEATURES[split.rows])
        np.testing.assert_array_equal(split.targets, TARGETS[split.rows])


def test_rows_count_in_the_part_that_a_split_comes_from(load, tmp_path):
    np.savez(tmp_path / "more.npz", features=np.concatenate([FEATURES[:1], FEATURES[:9] + 1]))
    parts = {"test_features": FEATURES[300:], "test_targets": TARGETS[300:]}
    settings = {"transfer": str(tmp_path / "more.npz")}
    task = load(np.concatenate([FEATURES[300:305], FEATURES[:300]]), np.zeros(305) + np.arange(305), settings, **parts)
    assert {name: split.part for name, split in task.splits.items()} == {
        "train": "train", "transfer": "transfer", "calibration": "train", "validation": "train", "test": "test",
    }  # fmt: skip
    assert task.splits["test"].rows.tolist() == list(range(100))
    assert task.splits["transfer"].rows.tolist() == list(range(1, 10)), "the first is in train already"
    assert task.splits["transfer"].targets is None
    assert min(task.splits["train"].rows) >= 5, "what is also held out was left out"
    assert (task.splits["train"].targets == task.splits["train"].rows).all()
    assert task.notes == (
        "5 of 305 train samples are also held out, and were left out",
        "1 transfer samples are copies of others, and were left out",
    )


def test_every_split_has_its_share_of_high_and_low_targets(load):
    """Of skewed targets, 20 samples drawn without a thought have none of the highest tenth in one of eight cases."""
    edges = np.quantile(TARGETS, [0.1, 0.5, 0.9])
    for split in load().splits.values():
        shares = [(split.targets <= edge).mean() for edge in edges]
        np.testing.assert_allclose(shares, [0.1, 0.5, 0.9], atol=0.051)


def test_copies_stay_together(load):
    task = load(np.repeat(FEATURES[:100], 4, axis=0), np.repeat(TARGETS[:100], 4) + np.tile([0, 0.1, 0.2, 0.3], 100))
    assert sum(sizes(task).values()) == 400
    for one, other in combinations(task.splits.values(), 2):
        assert not rows_of(one.inputs) & rows_of(other.inputs)


def test_a_source_keeps_its_own_splits(load):
    parts = {"test_features": FEATURES[:30], "test_targets": TARGETS[:30]}
    parts |= {"validation_features": FEATURES[30:50], "validation_targets": TARGETS[30:50]}
    task = load(FEATURES[50:], TARGETS[50:], {"calibration": 10}, **parts)
    assert sizes(task) == {"train": 340, "calibration": 10, "validation": 20, "test": 30}
    with pytest.raises(DataError, match=r"`test: 0.5` asks to take it from the training data, but own has a test"):
        load(FEATURES[50:], TARGETS[50:], {"test": 0.5}, **parts)


def test_features_are_standardised_by_the_training_data_alone(load):
    task = load()
    train = task.splits["train"].inputs.astype(float)
    np.testing.assert_allclose(task.preprocessing.mean, train.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(task.preprocessing.std, train.std(axis=0), rtol=1e-6)
    batch = task.batch("train", np.arange(280), None)
    np.testing.assert_allclose(batch.mean(axis=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(batch.std(axis=0), 1.0, atol=1e-5)
    assert (task.batch("train", np.arange(5), 7) == batch[:5]).all(), "features are not augmented"


def test_a_feature_that_never_changes_is_not_divided_by_the_rounding_of_its_mean(load):
    flat = FEATURES.copy()
    flat[:, 1] = 0.1
    task = load(flat)
    assert task.preprocessing.std[1] == 1.0
    assert np.abs(task.batch("test", np.arange(60), None)[:, 1]).max() < 1e-6


def test_features_may_be_taken_as_they_are(load):
    task = load(settings={"standardise": False})
    assert (task.preprocessing.mean, task.preprocessing.std, task.preprocessing.width) == ((), (), 3)
    np.testing.assert_array_equal(task.batch("test", np.arange(60), None), task.splits["test"].inputs)


def test_the_loss_and_the_network_know_the_targets_units(load):
    task = load(settings={"target_name": "price"})
    train = task.splits["train"].targets.astype(float)
    assert isinstance(task.objective, Score)
    assert task.objective.center == pytest.approx(train.mean(), rel=1e-6)
    assert task.objective.scale == pytest.approx(train.std(), rel=1e-6)
    assert (task.target, task.outputs) == ("price", 1)
    assert task.signature == Signature("features", 3, 1, task.objective.center, task.objective.scale)


def test_the_same_data_gives_the_same_task_and_anything_else_another(load):
    first = load()
    assert load().digest == first.digest
    features, targets = FEATURES.copy(), TARGETS.copy()
    features[7, 0] += 1
    targets[7] += 1
    changed = {
        load(features).digest,
        load(FEATURES, targets).digest,
        load(settings={"split_seed": 1}).digest,
        load(settings={"standardise": False}).digest,
        load(settings={"metric": "pearson"}).digest,
        load(settings={"target_name": "price"}).digest,
        first.digest,
    }
    assert len(changed) == 7


def test_the_order_of_the_source_changes_rows_and_nothing_else(load):
    order = RANDOM.permutation(400)
    one, other = load(), load(FEATURES[order], TARGETS[order])
    assert one.digest == other.digest
    for name, split in one.splits.items():
        np.testing.assert_array_equal(order[other.splits[name].rows], split.rows)


def test_targets_that_do_not_differ_are_told(load):
    with pytest.raises(DataError, match=r"own: all 280 targets of `train` are 2.5, so there is nothing to learn"):
        load(FEATURES, np.full(400, 2.5))
    parts = {"test_features": FEATURES[:9], "test_targets": np.ones(9)}
    with pytest.raises(DataError, match=r"all 9 targets of `test` are 1, .*no correlation to measure; give targets"):
        load(FEATURES[9:], TARGETS[9:], **parts)


def test_transfer_samples_must_be_of_the_same_kind(load, tmp_path):
    path = tmp_path / "more.npz"
    for arrays, message in (
        ({"images": FEATURES}, "has no `features`; found `images`"),
        ({"features": FEATURES[:, :2]}, "2 features a sample, but the training data has 3"),
        ({"features": FEATURES}, r"`transfer`: \d+ of \d+ samples are also in the test split .*; take these out"),
        ({"features": load().splits["train"].inputs}, "`transfer`: every sample is in another split already"),
    ):
        np.savez(path, **arrays)
        with pytest.raises(DataError, match=message):
            load(settings={"transfer": str(path)})


def test_settings(tmp_path):
    plain = {"regression": {"npz": "own.npz", "metric": "r2"}}
    spec = TaskSpec.model_validate(plain, context={"base": str(tmp_path)})
    assert spec.regression.npz == str(tmp_path / "own.npz")
    assert TaskSpec.model_validate(spec.model_dump(mode="json")) == spec
    for given, message in (
        ({}, "exactly one of `npz`, `python` must be given, but got none"),
        ({"npz": "a", "python": "b:c"}, "but got `npz` and `python`"),
        ({"npz": "a", "metric": "mae"}, "Input should be 'spearman', 'pearson' or 'r2'"),
        ({"npz": "a", "test": 1.5}, "`0 < share < 1` must hold"),
        ({"npz": "a", "name": "a/b"}, "should match pattern"),
    ):
        with pytest.raises(ValidationError, match=message):
            Regression(**given)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(DataError, match=r"gone\.npz: there is no such file"):
        Regression(npz=str(tmp_path / "gone.npz")).load()
