"""A benchmark of several models on several points, with the noise of the machine it ran on, as one plain document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from compresslab.measure.bench import record, serving
from compresslab.measure.comparison import compare
from compresslab.measure.latency import percentile
from compresslab.measure.machine import conditions, fingerprint
from compresslab.measure.noise import noise
from compresslab.measure.together import first_of_each

if TYPE_CHECKING:
    from collections.abc import Sequence

    from compresslab.measure.bench import BenchPoint, BenchSettings
    from compresslab.measure.measurement import Estimate
    from compresslab.measure.samples import LatencySamples
    from compresslab.measure.subject import Subject

SCHEMA_VERSION = 1
PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p999": 99.9}

Recorded = tuple[tuple["LatencySamples", ...], ...]


def benchmark(subjects: Sequence[Subject], settings: BenchSettings) -> tuple[dict[str, Any], Recorded]:
    """Measures all models interleaved, and the first of them twice: what sets the two apart is noise.

    Returns:
        The document, with latencies in milliseconds and percentiles of too few calls as None; and the raw samples, for
        each point those of each model, and last those of the first one's twin.

    Raises:
        BenchmarkFailed: A measuring process died.
        ArtifactError: A model has no such graph.
    """
    recorded = record([*subjects, subjects[0]], settings)
    loud = noise(recorded[0][0], recorded[0][-1])
    document = {
        "schema_version": SCHEMA_VERSION,
        "machine": {**fingerprint(), **conditions()},
        "settings": settings.model_dump(mode="json"),
        "noise": {
            **_interval(loud.ratio),
            "between_processes": loud.between_processes,
            "smallest_difference": loud.smallest,
            "warning": loud.warning,
        },
        "models": [
            {
                "name": subject.name,
                "session": subject.session.label,
                "provider": subject.session.provider,
                **_serving(subject, settings),
                "points": [
                    _point(point, models[number], models[0] if number else None)
                    for point, models in zip(settings.points, recorded, strict=True)
                ],
            }
            for number, subject in enumerate(subjects)
        ],
    }
    return document, recorded


def _serving(subject: Subject, settings: BenchSettings) -> dict[str, float]:
    """Of several graphs a process each, added up: what a machine needs that serves all of them."""
    points = [settings.points[place] for place in first_of_each(settings.points)]
    found = [serving(subject, settings.model_copy(update={"points": (point,)})) for point in points]
    return {name: sum(getattr(one, name) for one in found) for name in ("peak_rss_mb", "load_ms", "first_ms")}


def _point(point: BenchPoint, samples: LatencySamples, first: LatencySamples | None) -> dict[str, Any]:
    seconds = sum(float(process.sum()) for process in samples.processes) / 1e9
    found = {name: percentile(samples, percent) for name, percent in PERCENTILES.items()}
    versus = None
    if first is not None:
        comparison = compare(samples, first)
        versus = {**_interval(comparison.speedup), "verdict": comparison.verdict}
    return {
        **point.model_dump(mode="json"),
        "calls": samples.count,
        "examples_per_second": point.batch * samples.count / seconds,
        **{name: None if estimate is None else _interval(estimate) for name, estimate in found.items()},
        "speedup_over_first": versus,
    }


def _interval(estimate: Estimate) -> dict[str, float]:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}
