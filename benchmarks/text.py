"""MiniLM made smaller by pipelines/minilm_retrieval.yaml, beside what one would take instead.

python -m benchmarks.text            an hour and a half on one core; what is finished is kept
python -m benchmarks.text --quick    a thousandth of the data: proves that it runs, not how good it is
python -m benchmarks.text --table    the table of the last full run

Quality is what is kept of the teacher's, on packages that no training text is of, on kinds of text that no training
text is of, and on pairs that people scored. Speed is timed on queries and on documents, all models interleaved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import side_by_side
from benchmarks.document import load, options, publish
from compresslab.measure.bench import BenchPoint
from compresslab.report import Point

NAME, PIPELINE = "text", "minilm_retrieval"
TIMED = {name: (BenchPoint(inputs=f"validation/{name}"),) for name in ("queries", "documents")}


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the pipeline, times all its models side by side, prints the table, publishes the document."""
    asked = options(__doc__, arguments)
    if asked.table:
        print(markdown(load(NAME)))
        return
    pipeline, report, task = side_by_side.ran(NAME, of=PIPELINE, quick=asked.quick)
    kept = list(report.points[-1].measurement.retention)
    body = side_by_side.body_of(pipeline, report, task, TIMED, kept, name=_name, quick=asked.quick)
    print(markdown(body))
    publish(NAME, sum(point.seconds for point in report.points), body, quick=asked.quick)


def _name(point: Point) -> str:
    step = point.settings
    what = f"{point.stage}{' (' + str(step['backend']) + ')' if point.stage == 'quantize' else ''}"
    if point.stage == "distill" and (step.get("student") or {}).get("static") is not None:
        what = "table of token vectors"
    return f"instead: {what}" if point.reference else what


def markdown(body: Mapping[str, Any]) -> str:
    """A row a model: size, speed on queries and documents, and what is kept of the teacher on each benchmark."""
    return side_by_side.markdown(body, "batch 1, one thread, real lengths")


if __name__ == "__main__":
    main()
