import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compresslab.data.augmentation import Augmentation
from compresslab.data.randomness import integers, uniform

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(1, 256, (300, 12, 10, 3), dtype=np.uint8)
IDS = RANDOM.integers(0, 2**64, 300, dtype=np.uint64)
PINNED = [0.33805245419550545, 0.5225540511444501, 0.10951530563078749]
EVERYTHING = Augmentation(shift=2, flip=True, erase=0.5)


@settings(max_examples=25, deadline=None)
@given(rows=st.lists(st.integers(0, 299), min_size=1, max_size=40), seed=st.integers(-(2**70), 2**70))
def test_any_batch_in_any_order_gives_the_same_bytes(rows, seed):
    """Catches randomness that is drawn by position in the batch, or arithmetic that depends on the batch's size."""
    whole = EVERYTHING.apply(IMAGES, IDS, seed)
    assert EVERYTHING.apply(IMAGES[rows], IDS[rows], seed).tobytes() == whole[rows].tobytes()


def test_bytes_are_the_same_in_every_version():
    """A cache of teacher outputs lives longer than a process: the numbers are part of the contract."""
    ids = np.array([0, 1, 2**63 + 5], np.uint64)
    assert uniform(ids, 0, 0).tolist() == PINNED
    assert uniform(ids, 7, 3).tolist() != PINNED


def test_the_arguments_are_left_alone():
    images = IMAGES.copy()
    images.flags.writeable = False
    EVERYTHING.apply(images, IDS, 1)
    assert (images == IMAGES).all()


def test_the_default_changes_nothing():
    assert Augmentation().changes_nothing
    assert not EVERYTHING.changes_nothing
    assert (Augmentation().apply(IMAGES, IDS, 3) == IMAGES).all()


@pytest.mark.parametrize("augmentation", [Augmentation(shift=2), Augmentation(flip=True), Augmentation(erase=1.0)])
def test_another_seed_gives_another_view(augmentation):
    one, other = augmentation.apply(IMAGES, IDS, 0), augmentation.apply(IMAGES, IDS, 1)
    changed = (one != other).reshape(300, -1).any(axis=1)
    assert changed.mean() > 0.4


def test_half_of_the_images_are_mirrored():
    mirrored = Augmentation(flip=True).apply(IMAGES, IDS, 5)
    flipped = (mirrored == IMAGES[:, :, ::-1]).reshape(300, -1).all(axis=1)
    kept = (mirrored == IMAGES).reshape(300, -1).all(axis=1)
    assert (flipped | kept).all()
    assert 0.4 < flipped.mean() < 0.6


def test_every_shift_comes_as_often_and_brings_in_black():
    most = 2
    shifted = Augmentation(shift=most).apply(IMAGES, IDS, 5)
    padded = np.pad(IMAGES, ((0, 0), (most, most), (most, most), (0, 0)))
    counts = np.zeros((5, 5), int)
    for index, image in enumerate(shifted):
        found = [
            (top, left)
            for top in range(5)
            for left in range(5)
            if (padded[index, top : top + 12, left : left + 10] == image).all()
        ]
        assert len(found) == 1
        counts[found[0]] += 1
    assert counts.sum() == 300
    assert counts.min() >= 2
    assert counts.max() <= 30


def test_one_black_rectangle_of_2_to_25_percent_is_erased():
    erased = Augmentation(erase=0.5).apply(IMAGES, IDS, 5)
    black = (erased == 0).all(axis=3)
    touched = black.reshape(300, -1).any(axis=1)
    assert 0.4 < touched.mean() < 0.6
    assert (erased[~touched] == IMAGES[~touched]).all()
    for mask, image, before in zip(black[touched], erased[touched], IMAGES[touched], strict=True):
        rows, columns = mask.any(axis=1), mask.any(axis=0)
        assert (mask == rows[:, None] & columns[None, :]).all(), "it is a rectangle"
        assert rows.sum() * columns.sum() <= 0.4 * mask.size  # rounding of the sides adds to 25 %
        assert (image[~mask] == before[~mask]).all()
    centre = black.mean(axis=0)
    assert centre.max() < 0.4, "no place is favoured"


def test_numbers_are_uniform_and_streams_and_seeds_independent():
    ids = np.arange(20_000, dtype=np.uint64)  # the worst case: neighbours
    draws = np.stack([uniform(ids, seed, stream) for seed in (0, 1, 2) for stream in (0, 1, 2)])
    assert (draws >= 0).all()
    assert (draws < 1).all()
    assert np.abs(draws.mean(axis=1) - 0.5).max() < 0.01
    correlation = np.corrcoef(draws)
    assert np.abs(correlation - np.eye(9)).max() < 0.03
    assert np.abs(np.corrcoef(draws[:, 1:].ravel(), draws[:, :-1].ravel())[0, 1]) < 0.02
    whole = integers(ids, 0, 0, -2, 2)
    assert np.bincount(whole + 2).min() > 3_700
