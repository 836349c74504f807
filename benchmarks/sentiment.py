"""How people scored lines of film reviews: MiniLM learns it, and pipelines/sentiment_regression.yaml makes it smaller.

python -m benchmarks.sentiment            a quarter of an hour on one core; what is finished is kept
python -m benchmarks.sentiment --quick    a thirtieth of the lines, an epoch of everything: proves that it runs
python -m benchmarks.sentiment --table    the table of the last full run

The teacher is MiniLM after the pipeline's own `train`. Quality is Pearson's correlation with people's mean score on
test lines; what is lost of the teacher's is paired by line. Speed is timed on lines of real lengths, all models
interleaved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from benchmarks import side_by_side
from benchmarks.document import load, of_one_network, options, publish
from compresslab.measure.bench import BenchPoint
from compresslab.measure.evaluate import predict
from compresslab.measure.metrics import metric_of
from compresslab.measure.quality import quality_delta
from compresslab.report import Point

NAME, PIPELINE, FIGURE = "sentiment", "sentiment_regression", "movies/pearson"


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the pipeline, times its models side by side, prints the table, publishes the document."""
    asked = options(__doc__, arguments)
    if asked.table:
        print(markdown(load(NAME)))
        return
    pipeline, report, data = side_by_side.ran(NAME, of=PIPELINE, quick=asked.quick)
    task = of_one_network(data)
    taught = replace(report, points=report.points[1:])  # the first is MiniLM with a head that has learned nothing
    timed = {"lines": (BenchPoint(inputs="data"),)}
    body = side_by_side.body_of(pipeline, taught, task, timed, [FIGURE], name=_name, quick=asked.quick)
    test, metric = task.splits["test"], metric_of(FIGURE.partition("/")[2])
    assert test.targets is not None, "every line has a score"
    answers = [predict(point.artifact, test.inputs) for point in taught.points]
    for row, own in zip(body["rows"], answers, strict=True):
        lost = quality_delta(metric, own, answers[0], test.targets)
        row["delta"] = [lost.value, lost.low, lost.high]
    print(markdown(body))
    publish(NAME, sum(point.seconds for point in report.points), body, quick=asked.quick)


def _name(point: Point) -> str:
    return {"train": "teacher"}.get(point.stage, point.stage)


def markdown(body: Mapping[str, Any]) -> str:
    """A row a model: size, speed, correlation on test, and how many hundredths of it are lost."""
    first = body["rows"][0]
    lines = [
        "| model | kB | smaller | faster | Pearson's correlation on test | against the teacher, points |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in body["rows"]:
        name = f"**{row['name']}**" if row["selected"] else row["name"]
        speed = "{:.1f} [{:.1f}, {:.1f}]".format(*row["speedup"]["lines"])
        value = "{:.3f} [{:.3f}, {:.3f}]".format(*row["quality"][FIGURE])
        lost = "{:+.2f} [{:+.2f}, {:+.2f}]".format(*(100 * one for one in row["delta"]))
        smaller = first["bytes"] / row["bytes"]
        lines.append(f"| {name} | {row['bytes'] / 1000:,.0f} | {smaller:.1f}x | {speed} | {value} | {lost} |")
    return "\n".join([*lines, "", "One seed; batch 1, one thread, real lengths; 95 % intervals, paired by line."])


if __name__ == "__main__":
    main()
