"""Percentiles of what was recorded, with their intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compresslab.measure.intervals import latency_quantile
from compresslab.measure.measurement import Estimate, Latency

if TYPE_CHECKING:
    from compresslab.measure.bench import BenchPoint
    from compresslab.measure.samples import LatencySamples
    from compresslab.measure.session import SessionOptions

# A percentile that rests on fewer samples beyond it is the luck of a handful of calls.
_SAMPLES_BEYOND = 10


def percentile(samples: LatencySamples, percent: float) -> Estimate | None:
    """A percentile in milliseconds with its interval; None without ten samples beyond it."""
    if samples.count * round(100 - percent, 6) < 100 * _SAMPLES_BEYOND:
        return None
    return latency_quantile(samples.milliseconds, percent / 100)


def summarise(samples: LatencySamples, point: BenchPoint, session: SessionOptions) -> Latency:
    """The record of results.json."""
    p50 = latency_quantile(samples.milliseconds, 0.5)
    p90, p99 = percentile(samples, 90), percentile(samples, 99)
    return Latency(
        graph=point.graph,
        batch=point.batch,
        threads=point.threads,
        inputs=point.inputs,
        session=f"{session.label} io_binding=True" if point.io_binding else session.label,
        provider=session.provider,
        p50=p50.value,
        p90=p90.value if p90 else None,
        p99=p99.value if p99 else None,
        p50_low=p50.low,
        p50_high=p50.high,
        samples=samples.count,
        p90_low=p90.low if p90 else None,
        p90_high=p90.high if p90 else None,
        p99_low=p99.low if p99 else None,
        p99_high=p99.high if p99 else None,
    )
