"""Records: what is read back is what was written, as exactly as was asked for, and no more is read than that."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp

from compresslab.data.alike import blocks_alike
from compresslab.errors import ModelError
from compresslab.teacher import Cache
from compresslab.teacher.records import Writer, read, spot_checked

RANDOM = np.random.default_rng(0)


def logits(samples, classes, scale=4.0):
    return (scale * RANDOM.normal(size=(samples, classes))).astype(np.float32)


@pytest.fixture
def stored(tmp_path):
    """Writes answers in blocks and opens them again."""

    def store(answers, cache, logits=True, block=7):
        writer = Writer(tmp_path, len(answers), cache, logits=logits)
        for rows in blocks_alike(None, len(answers), block):
            writer.add(answers[rows])
        return read(tmp_path, answers.shape[1])

    return store


@pytest.mark.parametrize("block", [1, 7, 20, 50])
@pytest.mark.parametrize("shape", [(20, 3), (20, 4, 5, 2), (20, 6)])
def test_float32_is_kept_to_the_bit(stored, shape, block):
    answers = RANDOM.normal(size=shape).astype(np.float32)
    records = stored(answers, Cache(), block=block)
    assert len(records) == 20
    rows = np.array([19, 0, 7, 7])
    read_back = records.of(rows)
    assert read_back.dtype == np.float32
    np.testing.assert_array_equal(read_back, answers[rows])


def test_answers_in_any_memory_order(stored):
    """Channels-last features are strided; written as they lie they would come back scrambled."""
    answers = RANDOM.normal(size=(20, 4, 5, 2)).astype(np.float32).transpose(0, 3, 1, 2)
    assert not answers.flags["C_CONTIGUOUS"]
    np.testing.assert_array_equal(stored(answers, Cache(), logits=False).of(np.arange(20)), answers)


def test_float16_is_off_by_half_of_its_last_digit_at_most(stored, tmp_path):
    answers = logits(50, 10)
    read_back = stored(answers, Cache(dtype="float16")).of(np.arange(50))
    assert read_back.dtype == np.float32
    assert (np.abs(read_back - answers) <= np.abs(answers) * 2.0**-11 + 2.0**-25).all()
    assert np.abs(read_back - answers).max() > 0
    assert (tmp_path / "values.npy").stat().st_size - 50 * 10 * 2 < 256, "two bytes a logit, and a header"


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_top_k_keeps_the_largest_and_the_probability_of_the_rest(stored, dtype):
    answers = logits(50, 12)
    records = stored(answers, Cache(dtype=dtype, top_k=3))
    read_back = records.of(np.arange(50))
    assert read_back.shape == (50, 12)
    order = np.argsort(-answers, axis=1)
    kept, others = order[:, :3], order[:, 3:]
    exact = {"rtol": 0, "atol": 0} if dtype == "float32" else {"rtol": 2.0**-11}
    largest = np.take_along_axis(answers, kept, axis=1)
    np.testing.assert_allclose(np.take_along_axis(read_back, kept, axis=1), largest, **exact)
    rest = np.take_along_axis(read_back, others, axis=1)
    assert (rest == rest[:, :1]).all(), "the others share evenly"
    tolerance = 1e-5 if dtype == "float32" else 1e-2
    left = logsumexp(np.take_along_axis(answers, others, axis=1), axis=1)
    np.testing.assert_allclose(logsumexp(rest, axis=1), left, atol=tolerance)
    # So at T = 1 every kept class has the very probability that it had.
    probabilities = [np.take_along_axis(log_softmax(one, axis=1), kept, axis=1) for one in (read_back, answers)]
    np.testing.assert_allclose(*probabilities, atol=tolerance)


def test_what_is_left_by_a_very_sure_teacher_is_no_rounding_error(stored):
    """1 minus the largest probability is 0 here, but at a high temperature the others count, a thousand of them."""
    answers = np.full((4, 1000), -60.0, np.float32)
    answers[np.arange(4), [5, 17, 999, 0]] = [0.0, 3.0, 20.0, 40.0]
    read_back = stored(answers, Cache(top_k=1)).of(np.arange(4))
    np.testing.assert_allclose(read_back, answers, atol=1e-4)


def test_equal_logits_stay_equal(stored):
    read_back = stored(np.zeros((3, 5), np.float32), Cache(top_k=2)).of(np.arange(3))
    np.testing.assert_allclose(read_back, 0, atol=1e-6)


@pytest.mark.parametrize("top_k", [3, 4, 100])
def test_as_many_as_there_are_classes_is_all(stored, tmp_path, top_k):
    answers = logits(20, 3)
    np.testing.assert_array_equal(stored(answers, Cache(top_k=top_k)).of(np.arange(20)), answers)
    assert [file.name for file in tmp_path.iterdir()] == ["values.npy"]


@pytest.mark.parametrize(("classes", "dtype"), [(1000, np.uint16), (65_536, np.uint16), (65_537, np.int32)])
def test_numbers_of_classes_are_as_wide_as_they_must_be(stored, classes, dtype):
    """The last class is the largest: one bit less and it would be the class 0."""
    answers = np.zeros((2, classes), np.float32)
    answers[:, -1] = 9.0
    records = stored(answers, Cache(top_k=1))
    assert records.classes.dtype == dtype
    assert records.of(np.array([1])).argmax() == classes - 1


def test_features_are_kept_whole(stored):
    answers = logits(20, 8)
    np.testing.assert_array_equal(stored(answers, Cache(top_k=2), logits=False).of(np.arange(20)), answers)


@pytest.mark.parametrize("cache", [Cache(), Cache(top_k=2)])
def test_nothing_is_in_memory_but_what_was_asked_for(stored, cache):
    records = stored(logits(40, 6), cache)
    parts = [part for part in (records.values, records.classes, records.rest) if part is not None]
    assert all(isinstance(part, np.memmap) for part in parts)
    assert not any(part.flags.writeable for part in parts), "a student cannot change its teacher"
    read_back = records.of(np.array([3, 1]))
    assert not isinstance(read_back, np.memmap)
    assert read_back.nbytes == 2 * 6 * 4


@pytest.mark.parametrize("logit", [70_000.0, -70_000.0])
def test_what_float16_cannot_hold_is_refused(stored, logit):
    answers = logits(20, 3)
    answers[11, 1] = logit
    with pytest.raises(ModelError, match=r"as large as 7e\+04, and float16 ends at 6\.55e\+04; give `cache: {dtype: "):
        stored(answers, Cache(dtype="float16"))


@pytest.mark.parametrize("cache", [Cache(), Cache(top_k=2)])
def test_the_distance_from_live_answers(stored, cache):
    answers = logits(30, 5)
    records = stored(answers, cache)
    rows = spot_checked(30)
    live = answers[rows]
    largest = np.abs(np.sort(live, axis=1)[:, -cache.top_k :] if cache.top_k else live).max()
    assert records.distance(rows, live) == 0
    second = np.argsort(-live, axis=1)[:, 1]
    other = live.copy()
    other[np.arange(len(rows)), second] -= 0.5
    assert records.distance(rows, other) == pytest.approx(0.5 / largest, rel=0.05)


def test_the_distance_from_answers_of_another_shape(stored):
    records = stored(RANDOM.normal(size=(30, 4, 2, 2)).astype(np.float32), Cache(), logits=False)
    assert records.distance(np.arange(3), np.zeros((3, 4, 3, 3), np.float32)) == np.inf


@pytest.mark.parametrize("samples", [1, 2, 16, 17, 1000])
def test_spot_checks_are_spread_over_a_split(samples):
    rows = spot_checked(samples)
    assert len(rows) == min(samples, 16) == len(set(rows.tolist()))
    assert (rows[0], rows[-1]) == (0, samples - 1)
