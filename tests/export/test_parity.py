import numpy as np
import pytest

from compresslab.errors import ParityError
from compresslab.export.parity import check_parity
from compresslab.measure.measurement import Parity

OUT = np.array([[10.0, 0.0, -5.0], [1.0, 2.0, 3.0], [0.0, 9.0, 0.0]] * 100, np.float32)


def changed(index: int, values: list[float], source: np.ndarray = OUT) -> np.ndarray:
    copy = source.copy()
    copy[index] = values
    return copy


def test_the_largest_difference_is_recorded():
    other = changed(4, [1.0, 2.0, 3.0001])
    assert check_parity(OUT, other, 1e-4, quantized=False) == Parity(pytest.approx(0.0001, rel=0.01), 300)


def test_the_tolerance_is_relative_to_the_outputs():
    """0.0009 is within 1e-4 of 10, and beyond 1e-4 of 1."""
    check_parity(OUT, changed(4, [1.0, 2.0, 3.0009]), 1e-4, quantized=False)
    small = OUT / 10
    with pytest.raises(ParityError, match=r"differ by 0\.0009 where at most 0\.0001 is allowed"):
        check_parity(small, changed(4, [0.1, 0.2, 0.3009], small), 1e-4, quantized=False)


def test_the_worst_examples_are_named_with_both_outputs():
    other = changed(7, [1.0, 2.0, 4.0], changed(5, [0.0, 7.0, 0.0]))
    expected = r"The worst: input 5: torch \[0\. 9\. 0\.\], ONNX Runtime \[0\. 7\. 0\.\]; input 7: torch [^;]*$"
    with pytest.raises(ParityError, match=expected):
        check_parity(OUT, other, 1e-4, quantized=False)


@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_a_difference(quantized, value):
    with pytest.raises(ParityError, match=r"differ by inf.*input 2:"):
        check_parity(OUT, changed(2, [0.0, value, 0.0]), 1e-4, quantized=quantized)


def test_other_shapes():
    with pytest.raises(ParityError, match=r"shape \(300, 3\), ONNX Runtime of \(300, 2\)"):
        check_parity(OUT, OUT[:, :2], 1e-4, quantized=False)


def test_a_quantized_graph_may_be_a_step_off():
    noisy = OUT + np.random.default_rng(0).uniform(-0.4, 0.4, OUT.shape).astype(np.float32)
    assert check_parity(OUT, noisy, 1e-4, quantized=True).max_abs_diff < 0.4


def test_a_quantized_graph_may_not_be_far_off():
    with pytest.raises(ParityError, match=r"differ by 1\.5 where at most 1 is allowed.*input 6:"):
        check_parity(OUT, changed(6, [8.5, 0.0, -5.0]), 1e-4, quantized=True)


def test_a_quantized_graph_must_predict_the_same():
    """One in a hundred may differ; four of three hundred may not."""
    flipped = OUT.copy()
    flipped[1:10:3] = [1.0, 2.6, 2.4]
    check_parity(OUT, flipped, 1e-4, quantized=True)
    flipped[1:13:3] = [1.0, 2.6, 2.4]
    with pytest.raises(ParityError, match=r"same for only 98\.7% of the inputs, where 99% is demanded.*input 1:"):
        check_parity(OUT, flipped, 1e-4, quantized=True)


def test_ties_may_break_either_way():
    tied = OUT.copy()
    tied[1::3] = [1.0, 2.95, 3.0]
    other = tied.copy()
    other[1::3] = [1.0, 3.0, 2.95]
    check_parity(tied, other, 1e-4, quantized=True)


SCORES = np.linspace(100.0, 101.0, 200, dtype=np.float32)[:, np.newaxis]


def test_a_quantized_score_is_held_against_its_range_not_its_size():
    """A tenth of the size, as for logits, would let these scores be anything at all."""
    random = np.random.default_rng(0)
    near = SCORES + random.uniform(-0.03, 0.03, SCORES.shape).astype(np.float32)
    assert check_parity(SCORES, near, 1e-4, quantized=True).max_abs_diff < 0.04
    with pytest.raises(ParityError, match=r"differ by 0\.2 where at most 0\.1 is allowed.*input 6:"):
        check_parity(SCORES, changed(6, [SCORES[6, 0] + 0.2], SCORES), 1e-4, quantized=True)


def test_quantized_scores_must_keep_their_order():
    """Of one output the largest is always the same, so that it says nothing."""
    mixed = np.repeat(np.float32([[0.0], [0.09]]), 100, axis=0)
    mixed[0] = 1.0
    other = np.repeat(np.float32([[0.09], [0.0]]), 100, axis=0)
    other[0] = 1.0
    with pytest.raises(ParityError, match=r"scores that are correlated by only 0\.\d+, where 0\.99 is demanded"):
        check_parity(mixed, other, 1e-4, quantized=True)
    constant = np.full((200, 1), 0.05, np.float32)
    with pytest.raises(ParityError, match=r"differ by|correlated by only 0\.000"):
        check_parity(mixed, constant, 1e-4, quantized=True)


def test_scores_that_are_all_the_same_have_no_correlation_to_keep():
    constant = np.full((20, 1), 7.0, np.float32)
    check_parity(constant, constant + np.float32(1e-5), 1e-4, quantized=True)


@pytest.mark.parametrize("size", [1e-3, 1e3])
def test_float_scores_may_be_of_any_size(size):
    scores = size * np.linspace(-1.0, 1.0, 20, dtype=np.float32)[:, np.newaxis]
    check_parity(scores, scores + np.float32(5e-5 * size), 1e-4, quantized=False)
    with pytest.raises(ParityError, match="where at most"):
        check_parity(scores, scores + np.float32(5e-4 * size), 1e-4, quantized=False)
