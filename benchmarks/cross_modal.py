"""Pictures and words in one space, made smaller by pipelines/emoji_retrieval.yaml.

python -m benchmarks.cross_modal            not an hour on one core, and a quarter more where
                                            pipelines/teachers/emoji is missing; what is finished is kept
python -m benchmarks.cross_modal --quick    a twelfth of the concepts, an epoch or two: proves that it runs
python -m benchmarks.cross_modal --table    the table of the last full run

Quality is what is kept of the teacher's recall, the mean of both directions: on concepts that nothing was trained on
(`emoji`), on a vendor of whom nothing was trained on (`vendor`), and on such concepts in that vendor's hand
(`vendor_test`). Speed is that of a call of both graphs and of each, all models interleaved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import side_by_side
from benchmarks.document import load, options, publish
from benchmarks.short import PIPELINES
from compresslab import Report
from compresslab.measure.bench import BenchPoint
from compresslab.report import Point

NAME, PIPELINE, TEACHER = "cross_modal", "emoji_retrieval", "emoji_teacher"
CARRIED = PIPELINES / "teachers" / "emoji"
_IMAGE, _TEXT = BenchPoint(graph="image"), BenchPoint(graph="text", inputs="data")
TIMED = {"both": (_IMAGE, _TEXT), "image": (_IMAGE,), "text": (_TEXT,)}
SHOWN = ("emoji/recall@10", "vendor/recall@10", "vendor_test/recall@10")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the pipeline, its teacher's before it if need be; times all models, prints the table, publishes."""
    asked = options(__doc__, arguments)
    if asked.table:
        print(markdown(load(NAME)))
        return
    teacher = None if CARRIED.is_dir() else side_by_side.ran(f"{NAME}-teacher", of=TEACHER, quick=asked.quick)[1]
    taught = () if teacher is None else taught_by(teacher)
    pipeline, report, task = side_by_side.ran(NAME, taught, of=PIPELINE, quick=asked.quick)
    body = side_by_side.body_of(pipeline, report, task, TIMED, SHOWN, name=_name, quick=asked.quick)
    print(markdown(body))
    every = (*report.points, *(() if teacher is None else teacher.points))
    publish(NAME, sum(point.seconds for point in every), body, quick=asked.quick)


def taught_by(report: Report) -> tuple[str, ...]:
    """What makes the image tower that emoji_teacher.yaml trained the teacher of emoji_retrieval.yaml."""
    (trained,) = [point for point in report.points if point.stage == "train"]
    return (f"model.image.checkpoint={(trained.artifact.folder / 'image').resolve()}",)


def _name(point: Point) -> str:
    """With the towers that the stage changed."""
    return f"{point.stage} ({' and '.join(point.settings)})" if len(point.lineage) > 1 else "teacher"


def markdown(body: Mapping[str, Any]) -> str:
    """A row a model: size and speed of both towers, speed of each, and what is kept of the teacher's recall."""
    return side_by_side.markdown(body, "batch 1, one thread, real lengths")


if __name__ == "__main__":
    main()
