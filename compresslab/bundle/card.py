"""The model card: what is known of a model, and nothing else. No sentence in it is there to be filled in."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from compresslab.bundle.interface import files, inputs_and_outputs, use
from compresslab.report import figures
from compresslab.report.headline import comparison
from compresslab.report.lineage import names, path_to, point_by_id
from compresslab.report.markdown_syntax import code, escape, table
from compresslab.report.results import results
from compresslab.report.table import Column, Row, Table, machine_table

if TYPE_CHECKING:
    from compresslab.measure.artifact import Manifest
    from compresslab.report import Point, Report
    from compresslab.report.schema import LatencyResult, PointResult


def model_card(point: Point, report: Report) -> str:
    """The card as Markdown."""
    found = results(report)
    told, manifest = point_by_id(found, point.id), point.artifact.manifest
    path, named = path_to(found, told), names(found)
    parts = [
        f"# {escape(report.pipeline)}: {escape(named[point.id])}",
        escape(comparison(found, told)),
        *use(manifest),
        *inputs_and_outputs(manifest),
        "## Measured",
        table(_measured(told, manifest)),
        escape(_scope(told)),
        table(machine_table(report.machine)),
        "## How it was made",
        "\n".join(f"{index}. {_step(step, named)}" for index, step in enumerate(path, 1)),
        *files(manifest),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _measured(point: PointResult, manifest: Manifest) -> Table:
    rows: list[tuple[str, str]] = []
    for split, qualities in (("validation", point["quality"]["validation"]), ("test", point["quality"]["test"])):
        for metric, quality in qualities.items():
            count = f", n={figures.count(quality['n'])}" if quality["n"] is not None else ""
            rows.append((f"{metric} on {split}", f"{figures.percent_interval(quality)} %{count}"))
    for metric, retained in point["retention"].items():
        rows.append((f"{metric}, retained of the teacher's", f"{figures.percent_interval(retained)} %"))
    if point["agreement_with_teacher"] is not None:
        what = "same answer as the teacher" if manifest.target is None else "correlation with the teacher's answers"
        if manifest.embedding is not None:
            what = "correlation with the teacher's cosines"
        rows.append((what, f"{figures.percent(point['agreement_with_teacher'])} %"))
    rows += [_latency(latency) for latency in point["latency_ms"]]
    rows.append(("peak memory of a process that runs it", f"{figures.significant(point['peak_rss_mb'])} MB"))
    rows.append(("size", f"{figures.kilobytes(point['artifact']['bytes'])} kB"))
    rows.append(("parameters", figures.count(point["params"])))
    rows.append(("multiply-adds an example", figures.count(point["macs"])))
    if point["parity"] is not None:
        difference = f"at most {point['parity']['max_abs_diff']:.1e} over {point['parity']['n']} inputs"
        rows.append(("difference to the torch module", difference))
    integer = point["integer_operators"]
    rows.append(("operators that run in integers", f"{integer['integer']} of the {integer['eligible']} that could"))
    columns = (Column("what"), Column("value"))
    return Table("95 % intervals in brackets.", columns, tuple(Row(what, (what, value)) for what, value in rows))


def _latency(latency: LatencyResult) -> tuple[str, str]:
    what = f"latency ({latency['graph']}, batch {latency['batch']}, threads {latency['threads']})"
    low, high = figures.milliseconds(latency["p50_low"]), figures.milliseconds(latency["p50_high"])
    told = f"p50 {figures.milliseconds(latency['p50'])} ms [{low}, {high}]"
    for name, value in (("p90", latency["p90"]), ("p99", latency["p99"])):
        if value is not None:
            told += f", {name} {figures.milliseconds(value)} ms"
    return what, told if latency["session"] == "default" else f"{told}, session {latency['session']}"


def _scope(point: PointResult) -> str:
    """What the figures do not cover."""
    metrics = [*point["quality"]["validation"], *point["quality"]["test"]]
    benchmarks = sorted({metric.rsplit("/", 1)[0] for metric in metrics})
    if not benchmarks:
        return "Quality was not measured."
    return f"Quality was measured on {', '.join(benchmarks)} only, and speed on the machine below only."


def _step(step: PointResult, named: dict[str, str]) -> str:
    told = escape(named[step["id"]])
    for what, plain in (("settings", step["settings"]), ("decided", step["decisions"])):
        if plain:
            told += f"; {what}: {code(json.dumps(plain, ensure_ascii=False))}"
    return told
