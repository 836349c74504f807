"""ArrayTeacher: predictions in the order of the source find the sample that they are of, in whatever split it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compresslab.errors import DataError, ModelError
from compresslab.progress import Silent
from compresslab.tasks import ImageClassification, Regression
from compresslab.teacher import OUTPUT, ArrayTeacher, Question
from compresslab.testing import stripes

STRIPES = stripes(samples=120)
IMAGES, LABELS = STRIPES["images"], STRIPES["labels"]
NAMES = STRIPES["label_names"]
LAYER = "stages.0"


def revealing(images):
    """Logits that only the image at this very place could have: its label, and a number of its own."""
    sums = images.reshape(len(images), -1).astype(np.float64) @ np.arange(images[0].size)
    return np.stack([sums, -sums, sums / 2], axis=1).astype(np.float32)


def sure(labels):
    return 8 * np.eye(3, dtype=np.float32)[labels]


@pytest.fixture
def load(tmp_path):
    """A task on the stripes, from any arrays, and perhaps images without labels."""

    def loaded(transfer=None, augment=None, **arrays):
        parts = {"images": IMAGES, "labels": LABELS, "label_names": NAMES, **arrays}
        np.savez(tmp_path / "stripes.npz", **parts)
        settings = {"npz": str(tmp_path / "stripes.npz"), "augment": augment or {}}
        if transfer is not None:
            np.savez(tmp_path / "more.npz", images=transfer)
            settings["transfer"] = str(tmp_path / "more.npz")
        return ImageClassification(**settings).load(tmp_path / "cache")

    return loaded


@pytest.fixture
def teacher(tmp_path):
    """A teacher of arrays in a file."""

    def read(task, **predictions):
        np.savez(tmp_path / "predictions.npz", **predictions)
        return ArrayTeacher.read(tmp_path / "predictions.npz", task)

    return read


# -- whose predictions they are --------------------------------------------------------------------------------------


def test_every_carved_split_finds_its_samples(load, teacher, answered):
    """Splits are shuffled and of the same part; predictions taken in the split's order would be of other samples."""
    task = load()
    made = teacher(task, train=sure(LABELS))
    assert set(task.splits) == {"train", "calibration", "validation", "test"}
    for name, split in task.splits.items():
        assert (answered(made, split=name).argmax(axis=1) == split.targets).all(), name
    made = teacher(task, train=revealing(IMAGES))
    for name, split in task.splits.items():
        np.testing.assert_array_equal(answered(made, split=name), revealing(split.inputs), err_msg=name)


def test_parts_of_the_source_samples_left_out_and_unlabelled_ones(load, teacher, answered):
    """Training images that are also held out, and unlabelled copies, are skipped; what follows must not slip."""
    fresh = stripes(samples=20, seed=9)["images"]
    held_out = {"test_images": IMAGES[5:40], "test_labels": LABELS[5:40]}
    trained_on = load(**held_out).splits["train"].inputs[:1]
    transfer = np.concatenate([fresh[:4], trained_on, fresh[:1], fresh[4:]])
    task = load(transfer, **held_out)
    assert len(task.notes) == 2, task.notes
    made = teacher(task, train=revealing(IMAGES), test=revealing(held_out["test_images"]), transfer=revealing(transfer))
    assert len(task.splits["transfer"].inputs) == 20
    for name, split in task.splits.items():
        np.testing.assert_array_equal(answered(made, split=name), revealing(split.inputs), err_msg=name)


def test_rows_are_those_of_the_split(load, teacher):
    task = load()
    answers = teacher(task, train=revealing(IMAGES)).answers(Question("validation", None), Silent())
    rows = np.array([7, 2, 2])
    np.testing.assert_array_equal(answers.of(rows)[OUTPUT], revealing(task.splits["validation"].inputs[rows]))
    assert set(answers.of(rows)) == {OUTPUT}


def test_scores_of_a_regression_may_be_one_number_a_sample(tmp_path, teacher, answered):
    random = np.random.default_rng(0)
    features = random.normal(size=(200, 4)).astype(np.float32)
    targets = features.sum(axis=1)
    np.savez(tmp_path / "table.npz", features=features, targets=targets)
    task = Regression(npz=str(tmp_path / "table.npz")).load()
    for given in (targets, targets[:, None], targets.astype(np.float64)):
        made = teacher(task, train=given)
        for name, split in task.splits.items():
            found = answered(made, split=name)
            assert (found.shape, found.dtype) == ((len(split.targets), 1), np.float32)
            np.testing.assert_array_equal(found[:, 0], split.targets)


def test_scores_between_0_and_1_are_no_probabilities(tmp_path, teacher):
    features = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    np.savez(tmp_path / "table.npz", features=features, targets=(features[:, 0] > 0.1).astype(np.float32))
    task = Regression(npz=str(tmp_path / "table.npz"), metric="pearson").load()
    assert teacher(task, train=np.ones(200)).parts["train"].shape == (200, 1)


def test_other_predictions_are_another_teacher(load, teacher):
    task = load()
    first = teacher(task, train=sure(LABELS)).digest
    assert teacher(task, train=sure(LABELS)).digest == first
    assert teacher(task, train=0.5 * sure(LABELS)).digest != first


def test_it_is_as_exact_as_it_gets(load, teacher):
    made = teacher(load(), train=sure(LABELS))
    assert made.exact() is made


# -- predictions of something else -----------------------------------------------------------------------------------


def broken(change):
    values = sure(LABELS)
    change(values)
    return values


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        ({}, "no predictions `train`, which the split `train` needs; found nothing. There must be one array for each"),
        ({"training": sure(LABELS)}, "no predictions `train`, which the split `train` needs; found `training`"),
        ({"train": sure(LABELS[:-1])}, r"`train` has 119 rows, but the data has 120 samples there; predict for all"),
        ({"train": sure(LABELS)[:84]}, "`train` has 84 rows, but the data has 120"),
        ({"train": np.concatenate([sure(LABELS)] * 2)}, "`train` has 240 rows, but the data has 120"),
        ({"train": sure(LABELS)[:, :2]}, r"must have shape \[n, 3\], one column for each output.* but have \[120, 2\]"),
        ({"train": LABELS}, r"must have shape \[n, 3\], .* but have \[120\]"),
        ({"train": sure(LABELS)[None]}, r"must have shape \[n, 3\], .* but have \[1, 120, 3\]"),
        ({"train": NAMES[LABELS]}, "predictions must be numbers, but are <U10"),
        ({"train": broken(lambda v: v.__setitem__((slice(3, 5), 1), np.nan))}, "2 of 120 rows hold NaN or infinity"),
        (
            {"train": broken(lambda v: v.__setitem__((7, 1), -np.inf))},
            "1 of 120 rows hold.* logarithm of 0 is infinite",
        ),
        ({"train": sure(LABELS).astype(np.float64) * 1e39}, "120 of 120 rows hold .* or are too large for float32"),
        ({"train": sure(LABELS) / 8}, r"these are probabilities .*; give logits, or `numpy\.log\(numpy\.maximum\("),
    ],
)
def test_predictions_that_do_not_fit_the_data_are_refused(load, teacher, predictions, message):
    with pytest.raises(DataError, match=rf"predictions\.npz: .*{message}"):
        teacher(load(), **predictions)


def test_a_part_of_its_own_needs_predictions_of_its_own(load, teacher):
    task = load(test_images=IMAGES[:30], test_labels=LABELS[:30], images=IMAGES[30:], labels=LABELS[30:])
    with pytest.raises(DataError, match="no predictions `test`, which the split `test` needs; found `train`"):
        teacher(task, train=sure(LABELS[30:]))
    with pytest.raises(DataError, match="`test` has 90 rows, but the data has 30 samples there"):
        teacher(task, train=sure(LABELS[30:]), test=sure(LABELS[30:]))
    assert set(teacher(task, train=sure(LABELS[30:]), test=sure(LABELS[:30])).parts) == {"train", "test"}


def test_rounded_probabilities_of_many_classes_are_still_told(load, teacher):
    random = np.random.default_rng(0)
    task = load()
    rounded = random.dirichlet(np.ones(3), 120).round(3)
    with pytest.raises(DataError, match="these are probabilities"):
        teacher(task, train=rounded)
    teacher(task, train=np.log(np.maximum(rounded, 1e-7)))


def test_a_file_that_is_none(load, tmp_path):
    with pytest.raises(DataError, match=r"gone\.npz: there is no such file"):
        ArrayTeacher.read(tmp_path / "gone.npz", load())
    (tmp_path / "pickled.npz").write_bytes(b"\x80\x04N.")
    with pytest.raises(DataError, match=r"pickled\.npz: it is a pickle"):
        ArrayTeacher.read(Path(tmp_path / "pickled.npz"), load())


# -- samples that are not as they are --------------------------------------------------------------------------------


@pytest.mark.parametrize(("augment", "mixup"), [({"flip": True}, 0.0), ({}, 0.3)])
def test_augmented_and_mixed_samples_are_refused(load, teacher, augment, mixup):
    made = teacher(load(augment=augment), train=sure(LABELS))
    message = "cannot answer for augmented or mixed samples; remove `augment` from the task and `mixup` from the stage"
    with pytest.raises(DataError, match=message):
        made.require(mixup, [OUTPUT])
    with pytest.raises(DataError, match=message):
        made.answers(Question("train", 3, mixup=mixup), Silent())
    # The samples as they are, which is what is measured.
    made.answers(Question("validation", None, mixup=mixup), Silent())


@pytest.mark.parametrize("seed", [None, 3])
def test_it_has_no_layers(load, teacher, seed):
    made = teacher(load(), train=sure(LABELS))
    made.require(0.0, [OUTPUT])
    message = f"predictions has no layer `{LAYER}`; leave out the losses on features, or give the teacher as a network"
    with pytest.raises(ModelError, match=message):
        made.require(0.0, [OUTPUT, LAYER])
    with pytest.raises(ModelError, match=message):
        made.answers(Question("train", seed, outputs=[LAYER]), Silent())
