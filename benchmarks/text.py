"""MiniLM made smaller by pipelines/minilm_retrieval.yaml, beside what one would take instead.

python -m benchmarks.text            about an hour on two cores; what is finished is kept, so the command goes on
python -m benchmarks.text --quick    a hundredth of the training: proves that it runs, not how good it is
python -m benchmarks.text --table    the table of the last full run

Quality is what is kept of the teacher's, on packages that no training text is of, on kinds of text that no training
text is of, and on pairs that people scored. Speed is timed on queries and on documents, all models interleaved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.document import load, options, publish
from compresslab import Report, load_pipeline, run
from compresslab.measure.bench import BenchPoint, BenchSettings, interleaved
from compresslab.measure.comparison import compare
from compresslab.measure.measurement import Estimate
from compresslab.report import Point

NAME = "text"
PIPELINE = Path(__file__).parent.parent / "pipelines" / "minilm_retrieval.yaml"
QUICK = (
    "task.text_embedding.pairs.python=package_data.retrieval:few_packages",
    "stages.distill.epochs=1",
    "stages.distill.student.from_teacher.vocabulary.trim.min_count=1",
)
SETS = {"queries": "validation/queries", "documents": "validation/documents"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the pipeline, times all its models side by side, prints the table, publishes the document."""
    asked = options(__doc__, arguments)
    if asked.table:
        print(markdown(load(NAME)))
        return
    overrides = QUICK if asked.quick else ()
    pipeline = load_pipeline(PIPELINE, overrides)
    out = Path("runs") / f"{NAME}{'-quick' if asked.quick else ''}"
    report = run(pipeline, out)
    task = pipeline.task.load(out.parent / ".store", pipeline.model)
    settings = BenchSettings(
        points=tuple(BenchPoint(inputs=name) for name in SETS.values()),
        processes=2 if asked.quick else 5,
        min_seconds=0.5 if asked.quick else 5.0,
    )
    samples = interleaved(
        [point.artifact for point in report.points], task.splits["validation"].inputs, settings, task.sample_sets
    )
    rows = []
    for index, point in enumerate(report.points):
        speed = {
            name: _plain(compare(models[index], models[0]).speedup) for name, models in zip(SETS, samples, strict=True)
        }
        times = {name: models[index].median_ms for name, models in zip(SETS, samples, strict=True)}
        rows.append({**_row(point, point.id == report.selected), "speedup": speed, "ms": times})
    body = {"rows": rows, "benchmarks": list(_kept(report)), "seed": pipeline.seed}
    print(markdown(body))
    publish(NAME, sum(point.seconds for point in report.points), body, quick=asked.quick)


def _row(point: Point, selected: bool) -> dict[str, Any]:
    return {
        "name": _name(point),
        "selected": selected,
        "bytes": point.artifact.bytes,
        "params": point.artifact.manifest.params,
        "quality": {key: _plain(value) for key, value in point.measurement.quality["test"].items()},
        "retention": {key: _plain(value) for key, value in point.measurement.retention.items()},
        "seconds": point.seconds,
    }


def _name(point: Point) -> str:
    step = point.settings
    what = f"{point.stage}{' (' + str(step['backend']) + ')' if point.stage == 'quantize' else ''}"
    if point.stage == "distill" and (step.get("student") or {}).get("static") is not None:
        what = "table of token vectors"
    return f"instead: {what}" if point.reference else what


def _kept(report: Report) -> Mapping[str, Any]:
    return report.points[-1].measurement.retention


def _plain(estimate: Estimate) -> list[float]:
    return [estimate.value, estimate.low, estimate.high]


def markdown(body: Mapping[str, Any]) -> str:
    """A row a model: size, speed on queries and documents, and what is kept of the teacher on each benchmark."""
    first = body["rows"][0]
    lines = [
        "| model | kB | smaller | faster, queries | documents | "
        + " | ".join(f"{name}, % kept" for name in body["benchmarks"]) + " |",
        "| --- |" + " ---: |" * (4 + len(body["benchmarks"])),
    ]  # fmt: skip
    for row in body["rows"]:
        name = f"**{row['name']}**" if row["selected"] else row["name"]
        speed = " | ".join("{:.1f} [{:.1f}, {:.1f}]".format(*row["speedup"][one]) for one in SETS)
        kept = " | ".join(
            "{:.1f} [{:.1f}, {:.1f}]".format(*(100 * value for value in row["retention"][one]))
            if one in row["retention"] else ""
            for one in body["benchmarks"]
        )  # fmt: skip
        lines.append(
            f"| {name} | {row['bytes'] / 1000:,.0f} | {first['bytes'] / row['bytes']:.1f}x | {speed} | {kept} |"
        )
    quality = ", ".join(f"{key} {value[0]:.3f}" for key, value in first["quality"].items())
    lines += [
        "",
        f"The teacher: {quality}. One seed; batch 1, one thread, real lengths; 95 % intervals, paired by query.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
