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
