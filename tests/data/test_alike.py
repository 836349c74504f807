"""Batches of texts of a length: nobody is lost or comes twice, and little of a batch is padding."""

from __future__ import annotations

import numpy as np
import pytest

from compresslab.data.alike import batches_alike, blocks_alike

LENGTHS = np.random.default_rng(0).geometric(0.05, 10_007)


def shuffled(size: int) -> list[np.ndarray]:
    order = np.random.default_rng(1).permutation(len(LENGTHS))
    return [order[start : start + size] for start in range(0, len(order) - size + 1, size)]


def padding(batches: list[np.ndarray]) -> float:
    """Share of the tokens of all batches that are none."""
    filled = sum(LENGTHS[batch].max() * len(batch) for batch in batches)
    return 1 - sum(LENGTHS[batch].sum() for batch in batches) / filled


def test_an_epoch_has_the_same_samples_in_batches_of_the_same_size_and_hardly_any_padding():
    before = shuffled(128)
    after = batches_alike(before, LENGTHS, np.random.default_rng(2))
    assert [len(batch) for batch in after] == [len(batch) for batch in before]
    np.testing.assert_array_equal(np.sort(np.concatenate(after)), np.sort(np.concatenate(before)))
    assert padding(before) > 0.75
    assert padding(after) < 0.15


def test_batches_come_in_a_random_order_that_the_generator_says():
    first, again, other = (batches_alike(shuffled(128), LENGTHS, np.random.default_rng(seed)) for seed in (2, 2, 3))
    assert all(np.array_equal(one, two) for one, two in zip(first, again, strict=True))
    assert not all(np.array_equal(one, two) for one, two in zip(first, other, strict=True))
    means = np.array([LENGTHS[batch].mean() for batch in first[:64]])
    assert 20 < (np.diff(means) < 0).sum() < 44  # neither rising nor falling


def test_blocks_go_from_short_to_long_and_lose_nobody():
    blocks = blocks_alike(LENGTHS, len(LENGTHS), 500)
    assert [len(block) for block in blocks] == [500] * 20 + [7]
    assert (np.diff(LENGTHS[np.concatenate(blocks)]) >= 0).all()
    np.testing.assert_array_equal(np.sort(np.concatenate(blocks)), np.arange(len(LENGTHS)))


def test_samples_of_one_shape_stay_as_they_come():
    assert [list(block) for block in blocks_alike(None, 5, 2)] == [[0, 1], [2, 3], [4]]


@pytest.mark.parametrize(("samples", "size"), [(1, 5), (5, 5), (6, 5), (23, 5)])
def test_blocks_are_all_rows_in_order(samples, size):
    parts = blocks_alike(None, samples, size)
    assert np.concatenate(parts).tolist() == list(range(samples))
    assert all(len(part) == size for part in parts[:-1])
