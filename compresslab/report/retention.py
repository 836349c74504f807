"""What each model kept of its teacher, on every benchmark and class, and whether distillation helped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from compresslab.report import figures
from compresslab.report.lineage import metric_label, names, ordered, reported_split
from compresslab.report.table import Column, Row, Table, row_of

if TYPE_CHECKING:
    from compresslab.report.schema import ByClassResult, ClassResult, PointResult, Results

MARKS = (
    "A class is lost or gained where McNemar's exact test tells its recall from the teacher's, corrected by Holm over "
    "all classes of a model: where nothing changed, any mark at all has a chance of at most 5 %. The interval of a "
    "class is the paired 95 % interval of that class alone."
)
NO_CLASS_LOST = "No class of any model is lost for certain."


@dataclass(frozen=True)
class ByClass:
    """One model on one benchmark: a line that sums it up, every class, and the commonest changes of answer."""

    id: str
    title: str
    classes: Table
    flips: Table


def distillation(results: Results) -> list[str]:
    """For every point that has a control, whether the teacher was worth it."""
    named = names(results)
    told = []
    for point in ordered(results):
        delta = point.get("versus_control")
        if delta is None:
            continue
        verdict = "it helped" if delta["low"] > 0 else "it hurt" if delta["high"] < 0 else "no difference for certain"
        told.append(
            f"{named[point['id']]}: distillation: {figures.points_told(delta)} against its control "
            f"({reported_split(results)} {metric_label(results)}): {verdict}"
        )
    return told


def retention_table(results: Results) -> Table | None:
    """Every point on every benchmark and metric of the teacher; None where there was no teacher."""
    named = names(results)
    columns: tuple[Column, ...] = (
        Column("stage", essential=True),
        Column("benchmark", essential=True),
        Column("retention %", True, True),
    )
    classed = any(point.get("retention_by_class") for point in results["points"])
    if classed:
        columns += (
            Column("classes lost", True, True),
            Column("gained", True),
            Column("right -> wrong", True, True),
            Column("wrong -> right", True, True),
            Column("wrong -> other wrong", True),
        )
    rows = []
    for point in ordered(results):
        by_class = point.get("retention_by_class", {})
        told = {metric: metric.rpartition("/")[0] for metric in point["retention"]}
        # A teacher that is never right has no retention, but classes all the same.
        told |= {benchmark: benchmark for benchmark in by_class if benchmark not in told.values()}
        for name, benchmark in told.items():
            retained = figures.percent_interval(point["retention"].get(name))
            totals = _totals(by_class.get(benchmark)) if classed else ()
            rows.append(row_of(results, point, (named[point["id"]], name, retained, *totals)))
    if not rows:
        return None
    caption = (
        "What each model kept of the teacher: its metric over the teacher's, paired on "
        f"{reported_split(results)}; 95 % intervals in brackets."
    )
    return Table(caption, columns, tuple(rows))


def lost_table(results: Results) -> Table | None:
    """The classes that some model has lost for certain; None where no classes were compared."""
    named = names(results)
    compared = [
        (point, benchmark, found)
        for point in ordered(results)
        for benchmark, found in point.get("retention_by_class", {}).items()
    ]
    if not compared:
        return None
    rows = [
        row_of(results, point, (named[point["id"]], benchmark, *_cells(one)[:5]))
        for point, benchmark, found in compared
        for one in found["classes"]
        if one["change"] == "lost"
    ]
    caption = "Classes lost for certain."
    if any(len(found["classes"]) < found["measured"] for _, _, found in compared):
        caption += " Where a model has more than a hundred classes, the twenty worst are listed."
    columns = (Column("stage", essential=True), Column("benchmark"), *_CLASS_COLUMNS[:5])
    return Table(caption, columns, tuple(rows))


def by_class(results: Results) -> list[ByClass]:
    """Every class and the commonest flips of every model, one entry a model and benchmark."""
    named = names(results)
    return [
        _by_class(point, named[point["id"]], benchmark, found)
        for point in ordered(results)
        for benchmark, found in point.get("retention_by_class", {}).items()
    ]


_CLASS_COLUMNS = (
    Column("class", essential=True),
    Column("n", True),
    Column("teacher %", True),
    Column("model %", True),
    Column("points", True, True),
    Column("change", essential=True),
    Column("p (Holm)", True),
    Column("right -> wrong", True),
    Column("wrong -> right", True),
    Column("wrong -> other wrong", True),
)


def _by_class(point: PointResult, name: str, benchmark: str, found: ByClassResult) -> ByClass:
    of = f"{name} on {benchmark}, {figures.count(found['n'])} examples of {found['split']}"
    shown, counts = len(found["classes"]), found["flips"]
    worst = f"the {shown} worst of {found['measured']} classes, those lost first"
    which = "every class" if shown == found["measured"] else worst
    classes = Table(
        f"{of}: recall of {which}.", _CLASS_COLUMNS, tuple(Row(one["label"], _cells(one)) for one in found["classes"])
    )
    columns = (
        Column("teacher says", essential=True),
        Column("model says", essential=True),
        Column("examples", True),
        Column("right -> wrong", True),
        Column("wrong -> right", True),
    )
    flips = tuple(
        Row(
            f"{flip['teacher']} -> {flip['student']}",
            (
                flip["teacher"],
                flip["student"],
                figures.count(flip["count"]),
                figures.count(flip["right_to_wrong"]),
                figures.count(flip["wrong_to_right"]),
            ),
        )
        for flip in counts["frequent"]
    )
    changed = counts["right_to_wrong"] + counts["wrong_to_right"] + counts["wrong_to_other_wrong"]
    title = (
        f"{name} on {benchmark}: {found['lost']} of {found['measured']} classes lost, {figures.count(changed)} of "
        f"{figures.count(found['n'])} answers changed"
    )
    return ByClass(point["id"], title, classes, Table(f"{of}: the answers changed most often.", columns, flips))


def _totals(found: ByClassResult | None) -> tuple[str, ...]:
    if found is None:
        return (figures.NOT_MEASURED,) * 5
    flips = found["flips"]
    return (
        f"{found['lost']} of {found['measured']}",
        str(found["gained"]),
        figures.count(flips["right_to_wrong"]),
        figures.count(flips["wrong_to_right"]),
        figures.count(flips["wrong_to_other_wrong"]),
    )


def _cells(one: ClassResult) -> tuple[str, ...]:
    return (
        one["label"],
        figures.count(one["n"]),
        figures.percent(one["teacher"]),
        figures.percent(one["student"]),
        figures.points(one["delta"]),
        "" if one["change"] == "unclear" else one["change"],
        "<0.001" if one["p_value"] < 0.001 else f"{one['p_value']:.3f}",
        figures.count(one["right_to_wrong"]),
        figures.count(one["wrong_to_right"]),
        figures.count(one["wrong_to_other_wrong"]),
    )
