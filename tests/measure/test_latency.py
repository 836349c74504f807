from __future__ import annotations

import numpy as np
import pytest

from compresslab.measure.bench import BenchPoint
from compresslab.measure.latency import percentile, summarise
from compresslab.measure.samples import LatencySamples
from compresslab.measure.session import SessionOptions


def samples(rounds: int, calls: int = 10) -> LatencySamples:
    rng = np.random.default_rng(0)
    return LatencySamples(tuple((1e6 + rng.exponential(1e5, (rounds, calls))).astype(np.int64) for _ in range(2)))


@pytest.mark.parametrize(
    ("rounds", "p90", "p99"), [(4, False, False), (5, True, False), (49, True, False), (50, True, True)]
)
def test_a_percentile_needs_ten_samples_beyond_it(rounds: int, p90: bool, p99: bool) -> None:
    """5 rounds of 10 calls in 2 processes are 100 samples: exactly ten beyond p90."""
    found = samples(rounds)
    assert (percentile(found, 90) is not None) is p90
    assert (percentile(found, 99) is not None) is p99


def test_the_record_is_in_milliseconds_and_ordered() -> None:
    point = BenchPoint(batch=8, threads=2)
    found = summarise(samples(60), point, SessionOptions(graph_optimization="basic"))
    assert (found.batch, found.threads, found.graph, found.inputs) == (8, 2, "model", "example")
    assert (found.session, found.provider, found.samples) == ("graph_optimization=basic", "CPUExecutionProvider", 1200)
    assert 1.0 < found.p50_low < found.p50 < found.p50_high < 1.1
    assert found.p90_low < found.p90 < found.p90_high < found.p99_low < found.p99 < found.p99_high


def test_without_enough_samples_only_the_median_is_given() -> None:
    found = summarise(samples(1, 1), BenchPoint(), SessionOptions())
    assert (found.p90, found.p90_low, found.p99, found.p99_high) == (None, None, None, None)
    assert found.p50 > 1.0
    assert found.samples == 2
