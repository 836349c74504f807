"""The main job: the teacher, what quantizing it alone gives, and every stage of pipelines/fashion_mnist.yaml.

python -m benchmarks.main_job            two seeds
python -m benchmarks.main_job --quick    one seed, two epochs: proves that it runs, not how good it is
python -m benchmarks.main_job --long     one seed of pipelines/fashion_mnist_long.yaml instead, about an hour
python -m benchmarks.main_job --table    the table of the last full run, as the README shows it; with --long the other
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.document import load, options, publish
from compresslab import Report, load_pipeline, run
from compresslab.measure.measurement import Estimate, Versus
from compresslab.report import Point, write_chart
from compresslab.report.results import results

PIPELINE = Path(__file__).parent.parent / "pipelines" / "fashion_mnist.yaml"
LONG = PIPELINE.with_stem("fashion_mnist_long")
PICTURE = PIPELINE.parent.parent / "docs" / "fashion_mnist.svg"
METRIC = "fashion_mnist/accuracy"
SEEDS = (0, 1)
QUICK = (
    "stages.distill.epochs=2",
    "stages.distill.views=1",
    "stages.prune.recover.epochs=1",
    "stages.quantize.qat.epochs=1",
)
NAMES = {
    "baseline": "teacher, fp32",
    "reference": "teacher, INT8 by onnxruntime (no compresslab)",
    "distill": "distilled student, fp32",
    "prune": "+ pruned, fp32",
    "quantize": "+ INT8",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the pipeline for each seed, prints the table, publishes the document."""
    asked = options(__doc__, arguments, "--long")
    if asked.table:
        print(markdown(load("long_recipe" if asked.long else "main_job")))
        return
    begun = time.perf_counter()
    if asked.long:
        report = run(load_pipeline(LONG), Path("runs") / LONG.stem)
        made = sum(point.seconds for point in report.points)
        body = {"seeds": [0], "runs": [_rows(report)]}
        print(markdown(body))
        publish("long_recipe", made, body, quick=False)
        return
    seeds = SEEDS[:1] if asked.quick else SEEDS
    reports = [_run(seed, asked.quick) for seed in seeds]
    body = {"seeds": list(seeds), "runs": [_rows(report) for report in reports]}
    print(markdown(body))
    if not asked.quick:
        write_chart(results(reports[0]), PICTURE)
    publish("main_job", time.perf_counter() - begun, body, quick=asked.quick)


def _run(seed: int, quick: bool) -> Report:
    overrides = [f"seed={seed}", *(QUICK if quick else ())]
    out = Path("runs") / f"main_job{'-quick' if quick else ''}-{seed}"
    report = run(load_pipeline(PIPELINE, overrides), out)
    print(f"seed {seed}: {out}/report.html", flush=True)
    return report


def _rows(report: Report) -> list[dict[str, Any]]:
    return [_row(point, point.id == report.selected) for point in report.points]


def _row(point: Point, selected: bool) -> dict[str, Any]:
    test = point.measurement.quality["test"][METRIC]
    return {
        "stage": "reference" if point.reference else point.stage,
        "selected": selected,
        "budget": point.budget.status,
        "bytes": point.artifact.bytes,
        "params": point.artifact.manifest.params,
        "validation": point.measurement.quality["validation"][METRIC].value,
        "test": _plain(test),
        "p50_ms": point.measurement.latency[0].p50,
        "integer_operators": [
            point.measurement.integer_operators.integer,
            point.measurement.integer_operators.eligible,
        ],
        "versus_teacher": _versus(point.measurement.versus_baseline),
        "seconds": point.seconds,
    }


def _versus(versus: Versus | None) -> dict[str, Any] | None:
    if versus is None:
        return None
    return {
        "size_ratio": versus.size_ratio,
        "speedup": _plain(versus.speedup),
        "test_delta": _plain(versus.quality_delta),
    }


def _plain(estimate: Estimate) -> list[float]:
    return [estimate.value, estimate.low, estimate.high]


def markdown(body: dict[str, Any]) -> str:
    """The table of the first seed, with its 95 % intervals, and below it the selected model of every seed."""
    lines = [
        "| model | kB | smaller | faster, batch 1 | test accuracy | points against the teacher |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in body["runs"][0]:
        versus = row["versus_teacher"]
        name = f"**{NAMES[row['stage']]}**" if row["selected"] else NAMES[row["stage"]]
        smaller, faster, points = "1x", "1x", ""
        if versus is not None:
            smaller = f"{versus['size_ratio']:.1f}x"
            faster = "{:.1f}x [{:.1f}, {:.1f}]".format(*versus["speedup"])
            points = "{:+.2f} [{:+.2f}, {:+.2f}]".format(*(100 * value for value in versus["test_delta"]))
        lines.append(
            f"| {name} | {row['bytes'] / 1000:,.0f} | {smaller} | {faster} | {100 * row['test'][0]:.2f} % | {points} |"
        )
    chosen = [next((row for row in rows if row["selected"]), None) for rows in body["runs"]]
    found = [row for row in chosen if row is not None]
    if len(found) > 1:
        deltas = [100 * row["versus_teacher"]["test_delta"][0] for row in found]
        lines += [
            "",
            f"Selected models of seeds {', '.join(map(str, body['seeds']))}: "
            f"{', '.join(f'{value:+.2f}' for value in deltas)} points (mean {mean(deltas):+.2f}), "
            f"{', '.join('{:.1f}x'.format(row['versus_teacher']['speedup'][0]) for row in found)} faster, "
            f"{', '.join('{:.1f}x'.format(row['versus_teacher']['size_ratio']) for row in found)} smaller.",
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
