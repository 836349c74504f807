from __future__ import annotations

import numpy as np
import pytest

from compresslab.quantization.calibration_report import Coverage, spread, subset, subset_size

LABELS = ("cat", "dog", "eel")


def test_classes_among_the_samples_that_are_used_are_counted() -> None:
    found = Coverage.of(np.array([0, 1, 0, 2, 2]), LABELS, samples=3, given=5)
    assert found.counts == {"cat": 2, "dog": 1, "eel": 0}
    assert found.plain() == {
        "of": 5, "disjoint": "no sample is in another split, by content hash",
        "classes": 2, "of_classes": 3, "fewest_of_a_class": 0, "missing": ["eel"],
    }  # fmt: skip


def test_a_missing_class_is_told_with_the_remedy() -> None:
    (note,) = Coverage.of(np.array([0, 1, 0, 2, 2]), LABELS, 3, 5).notes()
    assert note == (
        "calibration has no sample of 1 of 3 classes: `eel`; what only they reach is clipped, so raise `samples` "
        "(now 3 of 5)"
    )
    (note,) = Coverage.of(np.array([0, 1]), LABELS, 2, 2).notes()
    assert note.endswith("so add some")
    assert not list(Coverage.of(np.array([0, 1, 2]), LABELS, 3, 3).notes())


@pytest.mark.parametrize(("targets", "labels"), [(None, LABELS), (np.zeros(4, np.float32), ())])
def test_without_labels_there_are_no_classes_to_cover(targets, labels) -> None:
    found = Coverage.of(targets, labels, 4, 4)
    assert found.plain()["labelled"] is False
    assert not list(found.notes())


def test_random_subsets_differ_and_come_back_the_same() -> None:
    """All of a split would be the same every time, so a half is drawn there."""
    assert (subset_size(5, 20), subset_size(20, 20)) == (5, 10)
    one, other = subset(20, 10, 0, 0), subset(20, 10, 0, 1)
    assert sorted(one) != sorted(other)
    assert len(set(one.tolist())) == 10
    assert (subset(20, 10, 0, 0) == one).all()
    assert (subset(20, 10, 1, 0) != one).any()


def test_the_spread() -> None:
    found = spread([0.9, 0.92], 10)
    assert (found["subsets"], found["mean"], found["std"]) == (2, 0.91, 0.014142)
