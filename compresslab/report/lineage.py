"""Who comes from whom: the order of the points, the path to one, and a short name that is unique."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from compresslab.measure.metric_names import EMBEDDING_METRICS, SCORE_METRICS

if TYPE_CHECKING:
    from compresslab.report.schema import PointResult, Results


def point_by_id(results: Results, point_id: str) -> PointResult:
    """The point with this id; KeyError if there is none."""
    for point in results["points"]:
        if point["id"] == point_id:
            return point
    raise KeyError(point_id)


def ordered(results: Results) -> list[PointResult]:
    """Each point right after the ones it comes from, in the order they were made; reference points last."""
    first: dict[tuple[str, ...], int] = {}
    for index, point in enumerate(results["points"]):
        first.setdefault(tuple(point["lineage"]), index)

    def key(point: PointResult) -> tuple[bool, list[int]]:
        lineage = tuple(point["lineage"])
        prefixes = (lineage[: length + 1] for length in range(len(lineage)))
        return point["reference"], [first.get(prefix, -1) for prefix in prefixes]

    return sorted(results["points"], key=key)


def baseline(results: Results) -> PointResult:
    """The point that everything is compared with: the first without a comparison of its own, else the first."""
    return next((point for point in results["points"] if point["versus_baseline"] is None), results["points"][0])


def beside(point: PointResult) -> str:
    """What a point is that no pipeline leads through: `reference` or `control`; empty for all others."""
    if point["reference"]:
        return "reference"
    return "control" if is_control(point) else ""


def is_control(point: PointResult) -> bool:
    """Whether it was trained at the cost of a distilled point, but without the teacher."""
    return point["decisions"].get("control") is True


def parent(results: Results, point: PointResult) -> PointResult | None:
    """The point that this one's stage started from: the last one made before it with the lineage up to it."""
    before = results["points"][: results["points"].index(point)]
    line = point["lineage"][:-1]
    return next((made for made in reversed(before) if made["lineage"] == line and not beside(made)), None)


def path_to(results: Results, point: PointResult) -> list[PointResult]:
    """From the baseline to this point, one entry a stage."""
    path = [point]
    while (above := parent(results, path[0])) is not None:
        path.insert(0, above)
    return path


def main_path(results: Results) -> list[PointResult]:
    """The path to the selected point; without one, to the last point that is no reference and no control."""
    if results["selected"] is not None:
        return path_to(results, point_by_id(results, results["selected"]))
    return path_to(results, [point for point in results["points"] if not beside(point)][-1])


def names(results: Results) -> dict[str, str]:
    """A short unique name for every point, by id.

    The stage is enough where no other point has it; else the settings and decisions that differ are added, and where
    none do, the id.
    """
    bare = {point["id"]: _bare_name(point) for point in results["points"]}
    named = {}
    for point in results["points"]:
        name = bare[point["id"]]
        namesakes = [other for other in results["points"] if bare[other["id"]] == name]
        named[point["id"]] = f"{name} {_difference(point, namesakes)}".rstrip()
    taken = Counter(named.values())
    return {key: name if taken[name] == 1 else f"{bare[key]} {key}" for key, name in named.items()}


def primary_metric(results: Results) -> str | None:
    """The `benchmark/metric` that points are compared on; None if nothing was evaluated."""
    for point in results["points"]:
        for metric in (*point["quality"]["validation"], *point["quality"]["test"]):
            return metric
    return None


def metric_label(results: Results) -> str:
    """The metric without its benchmark: `accuracy`."""
    return (primary_metric(results) or "quality").rsplit("/", 1)[-1]


def agreement_means(results: Results) -> str:
    """What an agreement of two models is, as a sentence for a table's caption."""
    if metric_label(results) in SCORE_METRICS:
        return "Agreement is the correlation of two models' answers."
    if metric_label(results) in EMBEDDING_METRICS:
        return "Agreement is the correlation of two models' cosines between the same samples."
    return "Agreement is the share of equal answers."


def reported_split(results: Results) -> str:
    """The split that the reader's figures are on: test, or validation where nothing was measured on test."""
    return "test" if any(point["quality"]["test"] for point in results["points"]) else "validation"


def _bare_name(point: PointResult) -> str:
    return f"{point['stage']} ({beside(point)})" if beside(point) else point["stage"]


def _difference(point: PointResult, namesakes: Sequence[PointResult]) -> str:
    """The first two scalar settings in which this point differs from its namesakes, as `key=value`."""
    mine = _scalars({**point["settings"], **point["decisions"]})
    others = [_scalars({**other["settings"], **other["decisions"]}) for other in namesakes]
    differing = [key for key in mine if any(other.get(key) != mine[key] for other in others)]
    return " ".join(f"{key.rsplit('.', 1)[-1]}={mine[key]}" for key in differing[:2])


def _scalars(plain: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Nested settings as `a.b` -> value, lists left out."""
    flat: dict[str, Any] = {}
    for key, value in plain.items():
        if isinstance(value, Mapping):
            flat.update(_scalars(value, f"{above}{key}."))
        elif not isinstance(value, list | tuple):
            flat[f"{above}{key}"] = value
    return flat
