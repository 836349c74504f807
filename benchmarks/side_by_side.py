"""A run's models beside its teacher: bytes, speed with all models interleaved, and what is kept on each benchmark."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.short import PIPELINES, SHORT
from compresslab import Pipeline, Report, load_pipeline, run
from compresslab.measure.bench import BenchPoint, BenchSettings, interleaved
from compresslab.measure.comparison import compare
from compresslab.measure.measurement import Estimate
from compresslab.measure.samples import LatencySamples
from compresslab.measure.together import together
from compresslab.report import Point
from compresslab.tasks import Task
from compresslab.tasks.towers_task import TowersTask

Timed = Mapping[str, tuple[BenchPoint, ...]]
"""What is timed, by what the table calls it: a call at each of these points."""


def ran(
    name: str, overrides: Sequence[str] = (), *, of: str, quick: bool
) -> tuple[Pipeline, Report, Task | TowersTask]:
    """A benchmark's pipeline, what came of it, and its data; with little data and training where `quick`.

    Args:
        name: Of the benchmark; the run is in runs/NAME or runs/NAME-quick.
        overrides: As the command line has them.
        of: The pipeline's name.
        quick: Whether it is to be seen only that it runs.
    """
    pipeline = load_pipeline(PIPELINES / f"{of}.yaml", [*(SHORT[of] if quick else ()), *overrides])
    out = Path("runs") / f"{name}{'-quick' if quick else ''}"
    report = run(pipeline, out)
    return pipeline, report, pipeline.task.load(out.parent / ".store", pipeline.model)


def body_of(
    pipeline: Pipeline,
    report: Report,
    task: Task | TowersTask,
    timed: Timed,
    benchmarks: Sequence[str],
    *,
    name: Callable[[Point], str],
    quick: bool,
) -> dict[str, Any]:
    """Times all models of a run side by side.

    Args:
        pipeline: What ran.
        report: What came of it; the first of its points is the teacher.
        task: Its data, for what is fed.
        timed: What is timed.
        benchmarks: The figures that the table shows, such as `emoji/recall@10`; the document has all.
        name: What the table calls a point.
        quick: Half a second of each instead of five.

    Returns:
        What `markdown` makes a table of.
    """
    points = tuple(dict.fromkeys(point for one in timed.values() for point in one))
    settings = BenchSettings(points=points, processes=2 if quick else 5, min_seconds=0.5 if quick else 5.0)
    artifacts = [point.artifact for point in report.points]
    recorded = interleaved(artifacts, task.splits["validation"].inputs, settings, task.sample_sets)

    def samples(of: tuple[BenchPoint, ...], model: int) -> LatencySamples:
        return together([recorded[points.index(point)][model] for point in of])

    rows = []
    for number, point in enumerate(report.points):
        its = {called: samples(of, number) for called, of in timed.items()}
        teachers = {called: samples(of, 0) for called, of in timed.items()}
        rows.append(
            {
                "name": name(point),
                "selected": point.id == report.selected,
                "bytes": point.artifact.bytes,
                "params": point.artifact.manifest.params,
                "quality": {key: _plain(value) for key, value in point.measurement.quality["test"].items()},
                "retention": {key: _plain(value) for key, value in point.measurement.retention.items()},
                "seconds": point.seconds,
                "speedup": {called: _plain(compare(its[called], teachers[called]).speedup) for called in timed},
                "ms": {called: its[called].median_ms for called in timed},
            }
        )
    return {"rows": rows, "benchmarks": list(benchmarks), "seed": pipeline.seed}


def markdown(body: Mapping[str, Any], conditions: str) -> str:
    """A row a model: size, speed, and what is kept of the teacher on each benchmark; below it the teacher's figures.

    Args:
        body: As `body_of` returns it.
        conditions: Under which speed was measured.
    """
    first = body["rows"][0]
    timed, shown = list(first["speedup"]), body["benchmarks"]
    lines = [
        f"| model | kB | smaller | faster, {' | '.join(timed)} | "
        + " | ".join(f"{name}, % kept" for name in shown) + " |",
        "| --- |" + " ---: |" * (2 + len(timed) + len(shown)),
    ]  # fmt: skip
    for row in body["rows"]:
        name = f"**{row['name']}**" if row["selected"] else row["name"]
        speed = " | ".join("{:.1f} [{:.1f}, {:.1f}]".format(*row["speedup"][one]) for one in timed)
        kept = " | ".join(
            "{:.1f} [{:.1f}, {:.1f}]".format(*(100 * value for value in row["retention"][one]))
            if one in row["retention"] else ""
            for one in shown
        )  # fmt: skip
        lines.append(
            f"| {name} | {row['bytes'] / 1000:,.0f} | {first['bytes'] / row['bytes']:.1f}x | {speed} | {kept} |"
        )
    quality = ", ".join(f"{key} {value[0]:.3f}" for key, value in first["quality"].items())
    lines += ["", f"The teacher: {quality}. One seed; {conditions}; 95 % intervals, paired by query."]
    return "\n".join(lines)


def _plain(estimate: Estimate) -> list[float]:
    return [estimate.value, estimate.low, estimate.high]
