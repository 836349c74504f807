"""The task's benchmarks, one by one: what each model does, keeps of its teacher, and loses; and what an index takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compresslab.report import figures
from compresslab.report.lineage import names, ordered, primary_metric
from compresslab.report.table import Column, Row, Table, row_of

if TYPE_CHECKING:
    from compresslab.report.schema import PointResult, Results

CHOSEN_BY_NONE = (
    "No benchmark has a say in what is chosen: all choices are made on validation. A loss is claimed to be below a "
    "limit only where the upper end of its interval is, on every benchmark."
)


def benchmarks(results: Results) -> tuple[str, ...]:
    """The figures, `benchmark/metric`, that were measured beside the task's own."""
    own = primary_metric(results)
    return tuple(dict.fromkeys(name for point in results["points"] for name in point["quality"]["test"] if name != own))


def worst(results: Results, point: PointResult) -> str:
    """The benchmark on which a point may have lost the most, in words; empty where there are none.

    By the lower end of what it kept of the teacher; of the change against the baseline where there is no teacher.
    """
    found = benchmarks(results)
    kept = {name: point["retention"][name] for name in found if name in point["retention"]}
    if kept:
        name = min(kept, key=lambda one: kept[one]["low"])
        told = f"keeps {figures.percent_interval(kept[name])} % of the teacher's quality"
        return f"{_of(len(kept))}, {name}, it {told}"
    versus = point["versus_baseline"]
    deltas = {} if versus is None else versus.get("benchmark_deltas", {})
    if not deltas:
        return ""
    name = min(deltas, key=lambda one: deltas[one]["low"])
    return f"{_of(len(deltas))}, {name}, it is at {figures.points(deltas[name])} points"


def benchmarks_table(results: Results) -> Table | None:
    """Every point on every benchmark; None where there are none."""
    found, named = benchmarks(results), names(results)
    columns = (
        Column("stage", essential=True),
        Column("benchmark", essential=True),
        Column("quality %", True, True),
        Column("n", True),
        Column("retention %", True, True),
        Column("points to the baseline", True, True),
        Column("in the teacher's index %", True, hint="of what the teacher's own queries find there"),
    )
    rows = []
    for point in ordered(results):
        versus = point["versus_baseline"]
        for name in found:
            quality = point["quality"]["test"].get(name)
            if quality is None:
                continue
            index = point.get("against_teacher_index", {}).get(name)
            cells = (
                named[point["id"]],
                name,
                figures.percent_interval(quality),
                figures.NOT_MEASURED if quality["n"] is None else figures.count(quality["n"]),
                figures.percent_interval(point["retention"].get(name)),
                figures.points(versus and versus.get("benchmark_deltas", {}).get(name)),
                figures.percent_interval(index and index["retention"]),
            )
            rows.append(row_of(results, point, cells))
    if not rows:
        return None
    caption = f"The benchmarks, each by itself; 95 % intervals in brackets. {CHOSEN_BY_NONE}"
    return Table(caption, columns, tuple(rows))


def index_table(results: Results) -> Table | None:
    """What an index of every point's embeddings takes; None where there are none."""
    named = names(results)
    columns = (
        Column("stage", essential=True),
        Column("index of", essential=True),
        Column("dimensions", True),
        Column("bytes a vector", True, True),
        Column("as int8", True, True),
        Column("quality as int8 %", True, True),
        Column("points to float32", True, True),
    )
    rows: list[Row] = []
    for point in ordered(results):
        for name, index in point.get("index", {}).items():
            cells = (
                named[point["id"]],
                name,
                figures.count(index["width"]),
                figures.count(index["bytes_float32"]),
                figures.count(index["bytes_int8"]),
                figures.percent_interval(index["int8"]),
                figures.points(index["int8_delta"]),
            )
            rows.append(row_of(results, point, cells))
    caption = (
        "What the embeddings mean for an index: documents as int8 have a step of their own in each dimension, queries "
        "stay in float32."
    )
    return Table(caption, columns, tuple(rows)) if rows else None


def _of(count: int) -> str:
    return "on its benchmark" if count == 1 else f"on the worst of {count} benchmarks"
