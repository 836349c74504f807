from __future__ import annotations

import numpy as np
import pytest

from compresslab.measure import intervals
from compresslab.measure.intervals import latency_quantile, latency_ratio, over_examples, proportion


def recording(
    rng: np.random.Generator, base: float, rounds: int = 20, calls: int = 12, disturbed: np.ndarray | None = None
) -> np.ndarray:
    """One process: calls of `base` ms with a tail; `disturbed` [rounds] is what the machine did to each round."""
    noise = rng.normal(0.0, 0.02, (rounds, 1)) + rng.exponential(0.05, (rounds, calls))
    return base * np.exp(noise + (0.0 if disturbed is None else disturbed[:, np.newaxis]))


def test_proportions_have_wilsons_interval() -> None:
    """8 of 10, worked by hand from Wilson's formula."""
    estimate = proportion(8, 10)
    assert (estimate.value, estimate.n) == (0.8, 10)
    assert (estimate.low, estimate.high) == pytest.approx((0.490162, 0.943318), abs=1e-6)
    assert proportion(10, 10).high == 1.0
    assert proportion(10, 10).low < 0.75
    assert proportion(0, 10).low == 0.0


def test_the_bootstrap_of_a_mean_is_that_of_the_normal_approximation() -> None:
    counts = np.array([300.0, 700.0])
    estimate = over_examples(0.7, lambda draws: draws[:, 1] / draws.sum(axis=1), counts, 1000)
    error = 1.96 * np.sqrt(0.7 * 0.3 / 1000)
    assert (estimate.low, estimate.high) == pytest.approx((0.7 - error, 0.7 + error), abs=0.002)


def test_many_cells_are_drawn_in_chunks_with_the_same_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def mean(draws: np.ndarray) -> np.ndarray:
        return draws @ np.arange(50.0) / draws.sum(axis=1)

    counts = np.arange(1.0, 51.0)
    whole = over_examples(33.0, mean, counts, 1275)
    monkeypatch.setattr(intervals, "_CHUNK", 7 * 50)
    assert over_examples(33.0, mean, counts, 1275) == whole


def test_drawing_examples_is_drawing_counts_of_cells() -> None:
    """Many cells take another path, for speed; with few the two can be compared: the same distribution."""
    counts = np.array([5.0, 30.0, 65.0])
    draws = [np.concatenate(list(draw(counts, 100, 2000))) for draw in (intervals._multinomial, intervals._examples)]
    for counted in draws:
        assert (counted.sum(axis=1) == 100.0).all()
    for moment in (np.mean, np.std):
        np.testing.assert_allclose(moment(draws[1], axis=0), moment(draws[0], axis=0), rtol=0.08)


def test_as_many_cells_as_examples_are_drawn_in_chunks_with_the_same_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def largest(draws: np.ndarray) -> np.ndarray:
        return (draws > 0) @ np.arange(50.0) / draws.sum(axis=1)

    whole = over_examples(24.5, largest, np.ones(50), 50)
    assert whole.low < whole.high
    monkeypatch.setattr(intervals, "_CHUNK", 7 * 50)
    assert over_examples(24.5, largest, np.ones(50), 50) == whole


def test_quantiles_of_resamples_are_those_of_explicit_copies() -> None:
    """The histogram and its bisection against the definition: repeat each round as often as it was drawn."""
    rng = np.random.default_rng(0)
    processes = [rng.exponential(1.0, (7, 5)), rng.exponential(1.0, (4, 9))]
    weights = rng.integers(0, 4, (30, 11)).astype(float)
    rounds = [*processes[0], *processes[1]]
    for share in (0.5, 0.9):
        found = intervals._Histogram(processes).quantiles(weights, share)
        for row, value in zip(weights, found, strict=True):
            copies = np.concatenate([np.tile(calls, int(times)) for calls, times in zip(rounds, row, strict=True)])
            pooled = np.sort(np.concatenate([process.ravel() for process in processes]))
            exact = np.searchsorted(pooled, np.quantile(copies, share, method="inverted_cdf"))
            assert pooled[max(exact - 1, 0)] <= value <= pooled[min(exact + 1, len(pooled) - 1)]


def test_a_ratio_to_itself_is_exactly_one() -> None:
    processes = [recording(np.random.default_rng(seed), 1.0) for seed in range(3)]
    estimate = latency_ratio(processes, processes)
    assert (estimate.value, estimate.low, estimate.high) == (1.0, 1.0, 1.0)


def test_intervals_scale_with_the_unit() -> None:
    processes = [recording(np.random.default_rng(seed), 1.0) for seed in range(3)]
    one = latency_quantile(processes, 0.9)
    thousand = latency_quantile([1000.0 * process for process in processes], 0.9)
    assert thousand.low == pytest.approx(1000.0 * one.low)
    assert thousand.high == pytest.approx(1000.0 * one.high)
    assert one.low < one.value < one.high


def test_what_disturbs_both_models_does_not_widen_their_ratio() -> None:
    """The point of interleaving; it is lost if the two are resampled apart."""
    rng = np.random.default_rng(0)
    storms = [rng.normal(0.0, 0.5, 20) for _ in range(3)]
    this = [recording(rng, 1.0, disturbed=storm) for storm in storms]
    other = [recording(rng, 3.0, calls=4, disturbed=storm) for storm in storms]
    alone, ratio = latency_quantile(this, 0.5), latency_ratio(other, this)
    assert ratio.low < 3.0 < ratio.high
    assert np.log(ratio.high / ratio.low) < 0.3 * np.log(alone.high / alone.low)


def test_processes_that_disagree_widen_the_interval() -> None:
    """A bootstrap of calls alone would not notice: there are thousands of calls and three processes."""
    rng = np.random.default_rng(0)
    alike = [recording(rng, 1.0) for _ in range(3)]
    apart = [recording(rng, base) for base in (0.95, 1.0, 1.05)]
    narrow, wide = latency_quantile(alike, 0.5), latency_quantile(apart, 0.5)
    assert wide.high - wide.low > 2.0 * (narrow.high - narrow.low)


def test_one_process_and_uneven_rounds_are_measured_too() -> None:
    rng = np.random.default_rng(0)
    assert latency_quantile([recording(rng, 1.0, rounds=4)], 0.5).low > 0.9
    uneven = [recording(rng, 1.0, rounds=5), recording(rng, 1.0, rounds=9, calls=3)]
    assert latency_quantile(uneven, 0.5).high < 1.2


def test_the_interval_of_a_ratio_covers_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """100 benchmarks of 5 processes that differ by 1 % each: 95 intervals should hold the truth."""
    monkeypatch.setattr(intervals, "_RESAMPLES", 1000)
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(100):
        storms = [rng.normal(0.0, 0.05, 12) for _ in range(5)]
        this = [recording(rng, 1.0 * np.exp(rng.normal(0.0, 0.01)), 12, disturbed=storm) for storm in storms]
        other = [recording(rng, 2.0 * np.exp(rng.normal(0.0, 0.01)), 12, 4, storm) for storm in storms]
        estimate = latency_ratio(other, this)
        covered += estimate.low <= 2.0 <= estimate.high
    assert covered >= 89
