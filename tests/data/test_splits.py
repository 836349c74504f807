import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compresslab.data.identity import ids_of, sample_hashes
from compresslab.data.splits import carve, prove_disjoint, require_every_class
from compresslab.errors import DataError

RANDOM = np.random.default_rng(0)
IDS = RANDOM.integers(0, 2**64, 1000, dtype=np.uint64)
TARGETS = RANDOM.integers(0, 4, 1000)
WANTED = {"test": 100, "validation": 60, "calibration": 40}


def test_sizes_are_exact_and_every_sample_has_one_place():
    splits = carve(IDS, TARGETS, WANTED, 0)
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 800, **WANTED}
    assert np.sort(np.concatenate(list(splits.values()))).tolist() == list(range(1000))


def test_every_split_has_its_share_of_each_class():
    for rows in carve(IDS, TARGETS, WANTED, 0).values():
        share = np.bincount(TARGETS[rows]) / len(rows)
        assert np.abs(share - np.bincount(TARGETS) / 1000).max() < 0.02


def test_the_order_of_the_files_does_not_matter():
    order = RANDOM.permutation(1000)
    one, other = carve(IDS, TARGETS, WANTED, 3), carve(IDS[order], TARGETS[order], WANTED, 3)
    assert {name: IDS[rows].tolist() for name, rows in one.items()} == {
        name: IDS[order][rows].tolist() for name, rows in other.items()
    }


def test_another_seed_gives_other_splits():
    one, other = carve(IDS, TARGETS, WANTED, 0), carve(IDS, TARGETS, WANTED, 1)
    assert len(set(one["test"]) & set(other["test"])) < 30


def test_the_first_part_of_a_split_is_a_fair_sample():
    """Catches rows in class order: parity on the first images of validation would see one class."""
    targets = np.sort(TARGETS)
    splits = carve(IDS, targets, {"test": 400, "validation": 300}, 0)
    for rows in splits.values():
        assert np.bincount(targets[rows[:60]], minlength=4).min() >= 6


@settings(max_examples=60, deadline=None)
@given(
    ids=st.lists(st.integers(0, 12), min_size=20, max_size=60),
    wanted=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    data=st.data(),
)
def test_copies_of_an_image_never_straddle_splits(ids, wanted, data):
    targets = data.draw(st.lists(st.integers(0, 2), min_size=len(ids), max_size=len(ids)))
    array = np.array(ids, np.uint64)
    try:
        splits = carve(array, np.array(targets), dict(zip(("test", "validation"), wanted, strict=True)), 0)
    except DataError:
        return  # so few distinct images that a split would be empty
    prove_disjoint({name: array[rows] for name, rows in splits.items()})
    assert np.sort(np.concatenate(list(splits.values()))).tolist() == list(range(len(ids)))


def test_the_last_image_of_a_class_stays_in_train():
    targets = np.zeros(50, np.int64)
    targets[7] = 1
    for seed in range(20):
        assert 7 in carve(IDS[:50], targets, {"test": 20, "validation": 20}, seed)["train"]


def test_too_much_is_told():
    with pytest.raises(
        DataError, match="`test` 900 \\+ `validation` 100 = 1000 samples leave none of 1000 for training"
    ):
        carve(IDS, TARGETS, {"test": 900, "validation": 100}, 0)
    same = np.zeros(9, np.uint64)
    with pytest.raises(DataError, match="`test` would be empty: 9 samples are too few"):
        carve(same, np.zeros(9, np.int64), {"test": 2}, 0)


def test_what_is_in_two_splits_is_told():
    prove_disjoint({"train": IDS[:500], "test": IDS[500:]})
    with pytest.raises(DataError, match="`train` and `test` share 7 images by content"):
        prove_disjoint({"train": IDS[:500], "other": IDS[600:700], "test": IDS[493:600]})


def test_a_class_without_a_sample_is_named():
    require_every_class(np.array([0, 1]), ("cat", "dog"), "train")
    with pytest.raises(DataError, match="`train` has no sample of class `dog`; add samples"):
        require_every_class(np.array([0, 2]), ("cat", "dog", "fox"), "train")
    with pytest.raises(DataError, match="no sample of classes `cat`, `dog`"):
        require_every_class(np.array([2]), ("cat", "dog", "fox"), "train")


def test_ids_are_the_content():
    images = RANDOM.integers(0, 256, (5, 3, 3, 1), dtype=np.uint8)
    images[3] = images[1]
    ids = ids_of(sample_hashes(images))
    assert ids[3] == ids[1]
    assert len(set(ids)) == 4
    turned = np.asfortranarray(images)
    assert (ids_of(sample_hashes(turned)) == ids).all(), "the pixels count, not how they lie in memory"
    zero = np.zeros((1, 1, 1, 1), np.uint8)
    assert hex(ids_of(sample_hashes(zero))[0]) == "0x6e340b9cffb37a98"  # sha256(b"\0"), first eight bytes
