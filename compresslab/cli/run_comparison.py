"""Two runs, stage by stage: what they recorded, aligned by lineage."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from compresslab.errors import BadInput
from compresslab.measure.machine import differences
from compresslab.measure.measurement import Estimate
from compresslab.measure.recorded import difference, ratio
from compresslab.report.figures import NOT_MEASURED, kilobytes, milliseconds, percent
from compresslab.report.lineage import beside
from compresslab.report.results import load_results
from compresslab.report.table import Column, Row, Table

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from compresslab.report.schema import Interval, PointResult, Results

Key = tuple[tuple[str, ...], str, int]


def compare_runs(a: Path, b: Path, *, across_machines: bool) -> tuple[Table, list[str]]:
    """The table of both runs' points, and notes of what differs between them beside the figures.

    Raises:
        BadInput: They were measured on different machines, and that is not asked for; or one is no run.
    """
    ours, theirs = load_results(a), load_results(b)
    machines = differences(ours["machine"], theirs["machine"])
    if machines and not across_machines:
        raise BadInput(
            f"{a} and {b} were measured on different machines ({'; '.join(machines)}), so their latencies do not "
            "compare; run one of them again here (what is cached is not trained again), or say --across-machines"
        )
    left, right = _by_lineage(ours), _by_lineage(theirs)
    keys = list(dict.fromkeys([*left, *right]))
    notes = [f"A is {a}, B is {b}; recorded at different times, so what drifted in between is in the latencies"]
    notes += [f"different machines: {one}" for one in machines]
    for key in keys:
        if key in left and key in right:
            notes += [f"{_name(key)}: {one}" for one in _settings(left[key]["settings"], right[key]["settings"])]
    columns = (
        Column("stage", essential=True),
        Column("kB A", True), Column("B", True), Column("B smaller", True, True),
        Column("p50 ms A", True), Column("B", True), Column("B faster", True, True),
        Column("quality A", True), Column("B", True), Column("B better, points", True, True),
    )  # fmt: skip
    rows = tuple(Row(_name(key), (_name(key), *_cells(left.get(key), right.get(key)))) for key in keys)
    return Table("", columns, rows), notes


def _by_lineage(results: Results) -> dict[Key, PointResult]:
    """Points of the same lineage, such as the attempts of `mode: auto`, are told apart by their order."""
    seen: Counter[tuple[tuple[str, ...], str]] = Counter()
    found: dict[Key, PointResult] = {}
    for point in results["points"]:
        line = (tuple(point["lineage"]), beside(point))
        found[*line, seen[line]] = point
        seen[line] += 1
    return found


def _name(key: Key) -> str:
    lineage, apart, number = key
    name = " > ".join(lineage)
    return f"{name}{f' ({number + 1})' if number else ''}{f' ({apart})' if apart else ''}"


def _cells(a: PointResult | None, b: PointResult | None) -> tuple[str, ...]:
    sizes = [NOT_MEASURED if one is None else kilobytes(one["artifact"]["bytes"]) for one in (a, b)]
    times = [NOT_MEASURED if one is None else milliseconds(one["latency_ms"][0]["p50"]) for one in (a, b)]
    qualities = [NOT_MEASURED if one is None else _quality(one) for one in (a, b)]
    if a is None or b is None:
        return (*sizes, NOT_MEASURED, *times, NOT_MEASURED, *qualities, NOT_MEASURED)
    smaller = f"{a['artifact']['bytes'] / b['artifact']['bytes']:.3g}x"
    return (*sizes, smaller, *times, _faster(a, b), *qualities, _better(a, b))


def _faster(a: PointResult, b: PointResult) -> str:
    first, second = a["latency_ms"][0], b["latency_ms"][0]
    if any(first[key] != second[key] for key in ("graph", "batch", "threads", "inputs", "session", "provider")):
        return "another point"
    found = ratio(*(Estimate(one["p50"], one["p50_low"], one["p50_high"]) for one in (first, second)))
    return f"{found.value:.3g}x [{found.low:.3g}, {found.high:.3g}]"


def _better(a: PointResult, b: PointResult) -> str:
    split = _split(a) if _split(a) == _split(b) else "validation"
    ours, theirs = a["quality"][split], b["quality"][split]  # type: ignore[literal-required]
    common = [metric for metric in ours if metric in theirs]
    if not common:
        return "another metric"
    found = difference(_estimate(theirs[common[0]]), _estimate(ours[common[0]]))
    value, low, high = (100 * one for one in (found.value, found.low, found.high))
    return f"{value:+.2f} [{low:+.2f}, {high:+.2f}]"


def _quality(point: PointResult) -> str:
    found: Mapping[str, Interval] = point["quality"][_split(point)]  # type: ignore[literal-required]
    return percent(next(iter(found.values()))["value"]) if found else NOT_MEASURED


def _split(point: PointResult) -> str:
    return "test" if point["quality"]["test"] else "validation"


def _estimate(found: Interval) -> Estimate:
    return Estimate(found["value"], found["low"], found["high"])


def _settings(a: Mapping[str, Any], b: Mapping[str, Any], prefix: str = "") -> list[str]:
    """`prune.ratio: 0.3 against 0.5`, one a setting."""
    found = []
    for key in dict.fromkeys([*a, *b]):
        ours, theirs = a.get(key), b.get(key)
        if isinstance(ours, dict) and isinstance(theirs, dict):
            found += _settings(ours, theirs, f"{prefix}{key}.")
        elif ours != theirs:
            found.append(f"{prefix}{key}: {ours} against {theirs}")
    return found
