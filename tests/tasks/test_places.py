"""Places: which samples every split has, and that no result is reported on what was learned from."""

from __future__ import annotations

import numpy as np
import pytest

from compresslab.errors import DataError
from compresslab.tasks.places import places

IDS = np.random.default_rng(0).integers(0, 1 << 63, 300).astype(np.uint64)
TRAIN, MORE = IDS[:200], IDS[200:]
STRATA = np.arange(200) % 2


def placed(**parts):
    parts = {"train": TRAIN, **parts}
    found, notes = places("own", parts, STRATA[: len(parts["train"])], {}, 0)
    return {split: parts[place.part][place.rows] for split, place in found.items()}, found, notes


def test_every_place_knows_how_large_its_part_is():
    """Predictions given as arrays are held against it: the largest row that is used would not tell one too many."""
    _, found, _ = placed(test=np.concatenate([MORE[:20], TRAIN[:5]]), transfer=np.concatenate([MORE[20:50], MORE[:0]]))
    sizes = {split: (place.part, place.size) for split, place in found.items()}
    assert sizes == {
        "train": ("train", 200), "calibration": ("train", 200), "validation": ("train", 200), "test": ("test", 25),
        "transfer": ("transfer", 30),
    }  # fmt: skip


def test_transfer_gives_way_to_training_and_calibration_and_keeps_its_order():
    _, found, _ = placed()
    known = TRAIN[np.concatenate([found["train"].rows[:7], found["calibration"].rows[:2]])]
    given = np.concatenate([MORE[5:9], known, MORE[7:20]])
    splits, _, notes = placed(transfer=given)
    assert splits["transfer"].tolist() == np.concatenate([MORE[5:9], MORE[9:20]]).tolist()
    assert notes == ("11 transfer images are copies of others, and were left out",)
    for name in ("train", "calibration", "validation", "test"):
        assert (splits[name] == placed()[0][name]).all(), "labelled samples stay where they are without transfer"


@pytest.mark.parametrize("apart", [True, False])
@pytest.mark.parametrize("split", ["test", "validation"])
def test_transfer_that_results_are_reported_on_is_refused(split, apart):
    """Whether the source has the split or it was carved; every copy counts."""
    parts = {split: MORE[:30]} if apart else {}
    held_out = placed(**parts)[0][split]
    given = np.concatenate([MORE[40:50], held_out[3:5], held_out[3:4], held_out[:9]])
    message = (
        rf"`transfer`: 12 of 22 images are also in the {split} split \(the first, counted from 0: 10, 11, 12, 13, 14\)"
    )
    with pytest.raises(DataError, match=message):
        placed(**parts, transfer=given)


def test_what_was_left_out_of_training_for_being_held_out_is_refused_too():
    with pytest.raises(DataError, match="`transfer`: 1 of 1 images are also in the test split"):
        placed(test=np.concatenate([MORE[:20], TRAIN[:5]]), transfer=TRAIN[3:4])


def test_transfer_without_anything_new_is_refused():
    rows = placed()[1]["train"].rows
    with pytest.raises(DataError, match="`transfer`: every image is in another split already; leave it out"):
        placed(transfer=TRAIN[rows])
