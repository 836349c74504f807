"""mixup as function matching needs it: the same blend whenever and in whatever batch a sample comes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from compresslab.data.augmentation import Augmentation
from compresslab.data.mixing import mixing
from compresslab.tasks import ImageClassification, Regression
from compresslab.testing import stripes

IDS = np.random.default_rng(0).integers(0, 1 << 63, 20_000).astype(np.uint64)


# -- what is drawn ---------------------------------------------------------------------------------------------------


def test_a_draw_depends_on_the_sample_and_the_seed_alone():
    partners, shares = mixing(IDS, len(IDS), 3, 0.5)
    some = np.array([17, 3, 3, 19_000])
    for rows in (some, np.arange(len(IDS))[::-1]):
        again = mixing(IDS[rows], len(IDS), 3, 0.5)
        np.testing.assert_array_equal(again[0], partners[rows])
        np.testing.assert_array_equal(again[1], shares[rows])


@pytest.mark.parametrize("probability", [0.0, 0.2, 0.7, 1.0])
def test_as_many_are_mixed_as_was_asked_for(probability):
    _, shares = mixing(IDS, len(IDS), 1, probability)
    mixed = (shares < 1).mean()
    assert mixed == pytest.approx(probability, abs=4 * np.sqrt(0.25 / len(IDS)) * (0 < probability < 1))


def test_shares_and_partners_are_uniform_and_have_nothing_to_do_with_each_other():
    """A partner from the batch, or a share that favours the sample itself, would not be function matching."""
    partners, shares = mixing(IDS, 1000, 2, 1.0)
    assert shares.dtype == np.float32
    assert stats.kstest(shares, "uniform").pvalue > 1e-3
    assert stats.chisquare(np.bincount(partners, minlength=1000)).pvalue > 1e-3
    assert (partners.min(), partners.max()) == (0, 999)
    assert abs(np.corrcoef(partners, shares)[0, 1]) < 4 / np.sqrt(len(IDS))


def test_who_is_mixed_says_nothing_of_the_share():
    _, all_shares = mixing(IDS, 1000, 2, 1.0)
    _, shares = mixing(IDS, 1000, 2, 0.3)
    mixed = shares < 1
    np.testing.assert_array_equal(shares[mixed], all_shares[mixed])
    assert stats.kstest(shares[mixed], "uniform").pvalue > 1e-3


def test_another_seed_is_another_draw():
    first, second = mixing(IDS, 1000, 2, 1.0), mixing(IDS, 1000, 3, 1.0)
    assert (first[0] == second[0]).mean() < 0.01
    assert abs(np.corrcoef(first[1], second[1])[0, 1]) < 4 / np.sqrt(len(IDS))


def test_a_split_of_one_sample_is_mixed_with_itself():
    assert mixing(IDS[:1], 1, 2, 1.0)[0].tolist() == [0]


# -- what is seen ----------------------------------------------------------------------------------------------------


@pytest.fixture
def images(tmp_path):
    np.savez(tmp_path / "stripes.npz", **stripes(samples=120))
    augment = Augmentation(shift=2, flip=True, erase=0.5)
    return ImageClassification(npz=str(tmp_path / "stripes.npz"), augment=augment).load(tmp_path / "cache")


@pytest.fixture
def features(tmp_path):
    values = np.random.default_rng(0).normal(size=(200, 5)).astype(np.float32)
    np.savez(tmp_path / "table.npz", features=values, targets=values[:, 0])
    return Regression(npz=str(tmp_path / "table.npz")).load()


@pytest.mark.parametrize("kind", ["images", "features"])
def test_a_mixed_batch_is_the_blend_of_two_augmented_samples(request, kind):
    task = request.getfixturevalue(kind)
    rows = np.arange(0, 60, 3)
    plain = task.batch("train", np.arange(len(task.splits["train"].inputs)), 7)
    partners, shares = task.mixing("train", rows, 7, 0.6)
    assert 0 < (shares < 1).sum() < len(rows)
    for row, partner, share, found in zip(rows, partners, shares, task.batch("train", rows, 7, 0.6), strict=True):
        expected = share * plain[row] + (1 - share) * plain[partner]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
        if share == 1:
            np.testing.assert_array_equal(found, plain[row])


@pytest.mark.parametrize("kind", ["images", "features"])
def test_the_bytes_do_not_depend_on_the_batch(request, kind):
    """A teacher's stored answers are of the bytes it saw in batches of 500; the student's come in others."""
    task = request.getfixturevalue(kind)
    rows = np.arange(len(task.splits["train"].inputs))
    whole = task.batch("train", rows, 5, 0.5)
    for some in (rows[:1], rows[::-1], rows[3:40:7], np.array([8, 8, 2])):
        np.testing.assert_array_equal(task.batch("train", some, 5, 0.5), whole[some])
    assert whole.flags["C_CONTIGUOUS"]


def test_partners_come_from_the_whole_split_and_from_no_other(images):
    rows = np.arange(len(images.splits["validation"].inputs))
    partners, _ = images.mixing("validation", rows[:2], 3, 1.0)
    assert partners.max() < len(rows)
    many = np.concatenate([images.mixing("validation", rows, seed, 1.0)[0] for seed in range(40)])
    assert set(many.tolist()) == set(rows.tolist())


def test_samples_as_they_are_are_not_mixed(images):
    rows = np.arange(10)
    np.testing.assert_array_equal(images.batch("train", rows, None, 1.0), images.batch("train", rows, None))


def test_no_mixup_is_the_augmentation_alone(images):
    rows = np.arange(10)
    np.testing.assert_array_equal(images.batch("train", rows, 3, 0.0), images.batch("train", rows, 3))
    assert (images.batch("train", rows, 3, 1.0) != images.batch("train", rows, 3)).any()
    assert images.batch("train", rows[:0], 3, 1.0).shape == (0, 1, 12, 12)
