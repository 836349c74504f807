import pytest
import torch

from compresslab.quantization.observers import (
    Entropy,
    Histogram,
    LeastSquares,
    MinMax,
    MovingAverage,
    Percentile,
    observer,
)
from compresslab.quantization.settings import QuantizerSettings

GENERATOR_SEED = 3


def normal(count: int) -> torch.Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(GENERATOR_SEED))


def test_minmax_keeps_the_extremes_of_all_batches():
    found = MinMax()
    for batch in ([0.0, 2.0], [-3.0, 1.0]):
        found.update(torch.tensor(batch))
    assert found.range() == (-3.0, 2.0)


def test_moving_average_by_hand():
    found = MovingAverage(0.25)
    for batch in ([-1.0, 4.0], [-3.0, 8.0]):
        found.update(torch.tensor(batch))
    assert found.range() == (-1.5, 5.0)


def test_a_histogram_that_grows_loses_nothing():
    """Each batch falls outside the range so far, on either side, and far outside."""
    histogram = Histogram()
    for batch in ([0.0, 1.0], [0.5, 9.0], [-50.0, 0.2], [1000.0]):
        histogram.update(torch.tensor(batch))
    assert histogram.counts.sum() == 7
    assert histogram.occupied() == (-50.0, 1000.0)
    assert histogram.low <= -50.0
    assert histogram.high >= 1000.0
    mean = float((histogram.centres * histogram.counts).sum() / 7)
    assert mean == pytest.approx((0 + 1 + 0.5 + 9 - 50 + 0.2 + 1000) / 7, abs=histogram.width)


def test_percentile_cuts_both_tails_of_signed_values():
    found = Percentile(99.0)
    found.update(torch.linspace(-1, 1, 100_001))
    assert found.range() == pytest.approx((-0.99, 0.99), abs=0.002)


def test_percentile_cuts_only_the_far_end_after_a_relu():
    found = Percentile(99.0)
    found.update(torch.linspace(0, 1, 100_001))
    assert found.range() == pytest.approx((0.0, 0.99), abs=0.002)


def test_a_percentile_of_all_is_the_extremes():
    found = Percentile(100.0)
    found.update(normal(1000))
    assert found.range() == pytest.approx((float(normal(1000).min()), float(normal(1000).max())))


def squared_error(x: torch.Tensor, low: float, high: float) -> float:
    scale = (high - low) / 255
    zero_point = round(-low / scale)
    return float((torch.fake_quantize_per_tensor_affine(x, scale, zero_point, 0, 255) - x).square().sum())


def test_least_squares_clips_an_outlier_where_that_pays():
    x = torch.cat([normal(1_000_000), torch.tensor([40.0])])
    found = LeastSquares()
    found.update(x)
    low, high = found.range()
    assert high < 30
    assert squared_error(x, low, high) < 0.5 * squared_error(x, float(x.min()), 40.0)


def test_least_squares_keeps_a_range_that_is_used_evenly():
    found = LeastSquares()
    found.update(torch.linspace(-1, 3, 10_001))
    assert found.range() == pytest.approx((-1.0, 3.0), abs=0.05)


def test_least_squares_keeps_zero_after_a_relu():
    found = LeastSquares()
    found.update(normal(10_000).clamp_min(0))
    assert found.range()[0] == 0.0


@pytest.mark.parametrize("name", ["minmax", "moving_average", "percentile", "mse"])
def test_every_observer_takes_a_tensor_of_one_value(name):
    """A dead channel: no range, no division by zero, no endless widening."""
    found = observer(QuantizerSettings(observer=name))
    assert not found.seen
    found.update(torch.zeros(10))
    assert found.seen
    assert found.range() == pytest.approx((0.0, 0.0), abs=1e-6)


def test_the_settings_reach_the_observer():
    found = observer(QuantizerSettings(observer="percentile", percentile=90.0))
    found.update(torch.linspace(0, 1, 10_001))
    assert found.range()[1] == pytest.approx(0.9, abs=0.002)


def test_entropy_clips_an_outlier():
    """One value in 100,001 at fifty sigma: kept, it would give the rest nine levels in ten bins each."""
    found = Entropy()
    found.update(torch.cat([normal(100_000), torch.tensor([50.0])]))
    low, high = found.range()
    assert -6 < low < -2
    assert 2 < high < 15


def test_entropy_keeps_what_is_evenly_spread():
    """Clipping would pile values up at an end that no level of the grid expects there."""
    found = Entropy()
    found.update(torch.linspace(0, 1, 100_001))
    assert found.range() == pytest.approx((0.0, 1.0), abs=0.02)


def test_entropy_is_not_misled_by_zeros():
    """Half of all values after a ReLU; spread over the bins of the first level, they would outweigh the rest."""
    values = normal(50_000).abs()
    plain, rectified = Entropy(), Entropy()
    plain.update(values)
    rectified.update(torch.cat([values, torch.zeros(50_000)]))
    assert rectified.range() == plain.range()
    assert rectified.range()[1] > 2


def test_entropy_of_nothing_but_zeros():
    found = Entropy()
    found.update(torch.zeros(10))
    assert found.range() == (0.0, 0.0)
