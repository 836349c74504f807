"""What a run came to in one sentence, and what its user should know before trusting it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compresslab.report import figures
from compresslab.report.benchmarks import worst
from compresslab.report.lineage import baseline, metric_label, names, point_by_id, reported_split
from compresslab.report.table import reported_quality

if TYPE_CHECKING:
    from compresslab.report.schema import Interval, PointResult, Results

_SELECT = {"smallest": "smallest", "fastest": "fastest", "most_accurate": "most accurate"}


def headline(results: Results) -> str:
    """The selected model against the baseline: how much smaller, how much faster, at what loss, with intervals."""
    if results["selected"] is None:
        return f"No model was selected: every one of the {len(results['points'])} is over the budget."
    point = point_by_id(results, results["selected"])
    if point["versus_baseline"] is None:
        name = names(results)[point["id"]]
        return f"{name} itself is selected: no other point within the budget is {_better(results['select'])}."
    return comparison(results, point)


def comparison(results: Results, point: PointResult) -> str:
    """A point against the baseline: how much smaller, how much faster, at what loss, with intervals."""
    root, named, versus = baseline(results), names(results), point["versus_baseline"]
    if versus is None:
        return f"{named[point['id']]} is what all others are compared with."
    before, after = (figures.kilobytes(one["artifact"]["bytes"]) for one in (root, point))
    smaller = figures.change(versus["size_ratio"], "smaller", "larger")
    sentence = (
        f"{named[point['id']]} is {smaller} ({before} -> {after} kB) and {_speed(versus['speedup'])} than "
        f"{named[root['id']]}, at {figures.points(versus['quality_delta'])} points of {reported_split(results)} "
        f"{metric_label(results)}"
    )
    quality, beside = reported_quality(results, point), worst(results, point)
    if quality:
        sentence = f"{sentence} ({figures.percent_interval(quality)} %)"
    return f"{sentence}; {beside}." if beside else f"{sentence}."


def selection(results: Results) -> str:
    """How the selected model was chosen."""
    if results["selected"] is None:
        return "Ease the budget, or change the stages: the tables say what each of them cost and bought."
    kind = _SELECT.get(results["select"], results["select"])
    if results["budget"]["status"] == "inconclusive":
        return f"Chosen on validation: the {kind} of the models that may be within the budget; none is for certain."
    return f"Chosen on validation: the {kind} model within the budget."


def warnings(results: Results) -> list[str]:
    """What did not work out: stages that bought no speed, with the reason, and what could not be told."""
    named = names(results)
    found = []
    for point in results["points"]:
        versus = point["versus_parent"]
        if versus is None or versus["verdict"] == "faster":
            continue
        what = {
            "slower": "made the model slower",
            "no_difference": "did not make the model faster",
            "inconclusive": "may or may not have made the model faster: the timings were too noisy to tell",
        }[versus["verdict"]]
        why = f": {'; '.join(versus['why'])}" if versus["why"] else ""
        found.append(f"{named[point['id']]} {what} ({figures.ratio_interval(versus['speedup'])}){why}.")
    return found


def budget_sentence(results: Results) -> str:
    """The budget's verdict on the selected model."""
    return {
        "pass": "Within the budget.",
        "fail": "Over the budget.",
        "inconclusive": "Inconclusive: some limit lies inside the interval of what was measured.",
    }[results["budget"]["status"]]


def picture_text(results: Results) -> str:
    """The Pareto picture in words, for those who cannot see it."""
    named = names(results)
    told = "; ".join(_told(results, point, named[point["id"]]) for point in results["points"])
    return f"Latency against {metric_label(results)}; the area of a point is its file size. {told}."


def _told(results: Results, point: PointResult, name: str) -> str:
    quality = reported_quality(results, point)
    latency = point["latency_ms"][0]["p50"] if point["latency_ms"] else None
    share = f"{figures.percent(quality['value'])} %" if quality else "not evaluated"
    return f"{name}: {figures.milliseconds(latency)} ms, {share}, {figures.kilobytes(point['artifact']['bytes'])} kB"


def _better(select: str) -> str:
    return {"smallest": "smaller", "fastest": "faster", "most_accurate": "more accurate"}.get(select, "better")


def _speed(speedup: Interval) -> str:
    """`10.4x [10.1, 10.7] faster`; a ratio whose interval holds 1 is not called a difference."""
    if speedup["low"] > 1:
        return f"{figures.ratio_interval(speedup)} faster"
    if speedup["high"] < 1:
        inverse: Interval = {"value": 1 / speedup["value"], "low": 1 / speedup["high"], "high": 1 / speedup["low"]}
        return f"{figures.ratio_interval(inverse)} slower"
    return f"not measurably faster ({figures.ratio_interval(speedup)})"
