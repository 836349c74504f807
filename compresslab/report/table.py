"""The tables of a report as plain text cells, drawn alike by the terminal, Markdown and HTML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from compresslab.report import figures
from compresslab.report.lineage import (
    agreement_means,
    is_control,
    metric_label,
    names,
    ordered,
    parent,
    primary_metric,
    reported_split,
)

if TYPE_CHECKING:
    from compresslab.report.schema import LatencyResult, PointResult, Quality, Results, VersusParent

SELECTED = "★"
FRONTIER = "◆"
REFERENCE = "○"
CONTROL = "△"
LEGEND = {
    SELECTED: "selected",
    FRONTIER: "on the Pareto frontier",
    REFERENCE: "reference: not of this pipeline, measured beside it",
    CONTROL: "control: trained at the same cost without the teacher",
}
AGREEMENT = "how alike the answers of the model and of the teacher are on validation; shown, but no budget can gate it"
_VERDICTS = {
    "faster": "faster",
    "slower": "SLOWER",
    "no_difference": "no difference",
    "inconclusive": "inconclusive",
}


@dataclass(frozen=True)
class Column:
    """A heading. `numeric` cells are aligned right, `prose` may wrap; `essential` columns fit a narrow terminal.

    `hint` explains the heading where there is room: as a tooltip of the page.
    """

    heading: str
    numeric: bool = False
    essential: bool = False
    prose: bool = False
    hint: str = ""


@dataclass(frozen=True)
class Row:
    """The cells of one point, one a column. `id` is the point's."""

    id: str
    cells: tuple[str, ...]
    selected: bool = False
    frontier: bool = False
    reference: bool = False
    control: bool = False


@dataclass(frozen=True)
class Table:
    """Plain text, not escaped for any format. `heads_row` is the index of the column that names the row."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    heads_row: int = 0

    def essential(self) -> Table:
        """The same rows with the essential columns only."""
        keep = [index for index, column in enumerate(self.columns) if column.essential]
        rows = tuple(replace(row, cells=tuple(row.cells[index] for index in keep)) for row in self.rows)
        return Table(self.caption, tuple(self.columns[index] for index in keep), rows, keep.index(self.heads_row))


def points_table(results: Results) -> Table:
    """Every point: what it weighs, how well it does, how fast it is, and whether its stage paid off."""
    metric = metric_label(results)
    named = names(results)
    columns = (
        Column("", essential=True),
        Column("stage", essential=True),
        Column("kB", True, True),
        Column("params", True),
        Column("MACs", True),
        Column(f"validation {metric} %", True),
        Column(f"test {metric} %", True, True),
        Column("p50 ms", True, True),
        Column("p90 ms", True),
        Column("speed-up", True, True),
        Column("size ratio", True, True),
        Column("agreement %", True, hint=AGREEMENT),
        Column("against its parent", essential=True),
    )
    rows = []
    for point in ordered(results):
        latency = deployment_latency(point)
        versus = point["versus_baseline"]
        validation = _quality(results, point, "validation")
        cells = (
            marks(results, point),
            named[point["id"]],
            figures.kilobytes(point["artifact"]["bytes"]),
            figures.count(point["params"]),
            figures.short_count(point["macs"]),
            figures.percent(validation and validation["value"]),
            figures.percent_interval(_quality(results, point, "test")),
            figures.milliseconds(latency["p50"] if latency else None),
            figures.milliseconds(latency["p90"] if latency else None),
            figures.ratio_interval(versus and versus["speedup"]),
            figures.ratio(versus and versus["size_ratio"]),
            figures.percent(point["agreement_with_teacher"]),
            verdict(point["versus_parent"]),
        )
        rows.append(row_of(results, point, cells))
    return Table(_points_caption(results), columns, tuple(rows), heads_row=1)


def stages_table(results: Results) -> Table:
    """The waterfall: what each stage cost and what it bought, against the model it started from."""
    named = names(results)
    columns = (
        Column("stage", essential=True),
        Column("from", essential=True),
        Column("kB", True, True),
        Column("smaller", True, True),
        Column("faster", True, True),
        Column(f"{metric_label(results)} points", True, True),
        Column("verdict", essential=True),
        Column("why", essential=True, prose=True),
        Column("took", True),
    )
    rows = []
    for point in ordered(results):
        versus = point["versus_parent"]
        above = parent(results, point)
        size = figures.kilobytes(point["artifact"]["bytes"])
        cells = (
            named[point["id"]],
            named[above["id"]] if above else figures.NOT_MEASURED,
            f"{figures.kilobytes(above['artifact']['bytes'])} -> {size}" if above else size,
            figures.ratio(versus and versus["size_ratio"]),
            figures.ratio_interval(versus and versus["speedup"]),
            figures.points(versus and versus["quality_delta"]),
            verdict(versus, with_speedup=False),
            "; ".join(versus["why"]) if versus else "",
            "cached" if point["cached"] else figures.duration(point["seconds"]),
        )
        rows.append(row_of(results, point, cells))
    caption = (
        "What each stage cost and bought, against the model it started from: speed measured interleaved with it, "
        f"quality paired on {reported_split(results)}; 95 % intervals in brackets."
    )
    return Table(caption, columns, tuple(rows))


def latency_table(results: Results) -> Table:
    """Every latency of every point."""
    named = names(results)
    columns = (
        Column("stage", essential=True),
        Column("graph"),
        Column("batch", True, True),
        Column("threads", True, True),
        Column("p50 ms", True, True),
        Column("p90 ms", True, True),
        Column("p99 ms", True, True),
        Column("samples", True),
        Column("inputs"),
        Column("session"),
    )
    rows = [
        row_of(
            results,
            point,
            (
                named[point["id"]],
                latency["graph"],
                str(latency["batch"]),
                str(latency["threads"]),
                f"{figures.milliseconds(latency['p50'])} "
                f"[{figures.milliseconds(latency['p50_low'])}, {figures.milliseconds(latency['p50_high'])}]",
                figures.milliseconds(latency["p90"]),
                figures.milliseconds(latency["p99"]),
                figures.count(latency["samples"]),
                latency["inputs"],
                f"{latency['session']}, {latency['provider']}",
            ),
        )
        for point in ordered(results)
        for latency in point["latency_ms"]
    ]
    return Table("Latency at every point that was asked for.", columns, tuple(rows))


def checks_table(results: Results) -> Table:
    """What vouches for the exported files."""
    named = names(results)
    metrics = list(dict.fromkeys(metric for point in results["points"] for metric in point["retention"]))
    retained = ["retention %"] if len(metrics) < 2 else [f"retention %, {metric}" for metric in metrics]
    columns = (
        Column("stage", essential=True),
        Column("largest difference to torch", True),
        Column("agrees with parent %", True),
        Column("integer operators", True, True),
        *(Column(heading, True, True) for heading in retained),
        Column("peak memory MB", True),
        Column("simulated / as a file %", True),
        Column("budget", essential=True),
    )
    rows = []
    for point in ordered(results):
        parity, integer = point["parity"], point["integer_operators"]
        cells = (
            named[point["id"]],
            f"{parity['max_abs_diff']:.1e} (n={parity['n']})" if parity else figures.NOT_MEASURED,
            figures.percent(point["agreement_with_parent"]),
            f"{integer['integer']} of {integer['eligible']}",
            *(figures.percent_interval(point["retention"].get(metric)) for metric in metrics or [""]),
            figures.significant(point["peak_rss_mb"]),
            _fidelity(point),
            point["budget"],
        )
        rows.append(row_of(results, point, cells))
    caption = (
        "What vouches for each exported file. Simulated is the fake-quantized network in torch, held against its file "
        f"on the same inputs. {agreement_means(results)}"
    )
    return Table(caption, columns, tuple(rows))


def float_table(results: Results) -> Table | None:
    """Every operator of an INT8 model that runs in float although it has an integer kernel; None where there is none.

    The largest share of the time first, by model.
    """
    named = names(results)
    columns = (
        Column("stage", essential=True),
        Column("operator", essential=True),
        Column("type"),
        Column("share of the time %", True, True),
        Column("why", essential=True, prose=True),
    )
    rows = [
        row_of(
            results,
            point,
            (named[point["id"]], one["name"], one["kind"], figures.percent(one["share"]), one["reason"]),
        )
        for point in ordered(results)
        for one in sorted(point["integer_operators"].get("in_float", []), key=lambda one: -one["share"])
    ]
    caption = (
        "Operators in float: of the quantized models, those that have an integer kernel and do without, and "
        "activations between integers that have none. Shares are of the time inside kernels by ONNX Runtime's profile "
        "at the deployment point."
    )
    return Table(caption, columns, tuple(rows)) if rows else None


def machine_table(machine: Mapping[str, object]) -> Table:
    """The machine, one fact a row."""
    rows = tuple(Row(key, (key, _plain(value))) for key, value in machine.items())
    columns = (Column("fact", essential=True), Column("machine", essential=True, prose=True))
    return Table("The machine that measured.", columns, rows)


def deployment_latency(point: PointResult) -> LatencyResult | None:
    """The latency that counts: the first point of the benchmark."""
    return point["latency_ms"][0] if point["latency_ms"] else None


def reported_quality(results: Results, point: PointResult) -> Quality | None:
    """The primary metric on the split that the reader's figures are on."""
    return _quality(results, point, reported_split(results))


def marks(results: Results, point: PointResult) -> str:
    """The symbols of a point; `LEGEND` says what they mean."""
    here = (
        (SELECTED, point["id"] == results["selected"]),
        (FRONTIER, point["id"] in results["frontier"]),
        (REFERENCE, point["reference"]),
        (CONTROL, is_control(point)),
    )
    return "".join(mark for mark, holds in here if holds)


def legend(results: Results) -> dict[str, str]:
    """The symbols and what they mean; that of controls only where there is one."""
    return {mark: told for mark, told in LEGEND.items() if mark != CONTROL or any(map(is_control, results["points"]))}


def verdict(versus: VersusParent | None, *, with_speedup: bool = True) -> str:
    """`faster 4.10x`; `-` for a point without a parent."""
    if versus is None:
        return figures.NOT_MEASURED
    word = _VERDICTS[versus["verdict"]]
    return f"{word} {figures.ratio(versus['speedup']['value'])}" if with_speedup else word


def _quality(results: Results, point: PointResult, split: str) -> Quality | None:
    metric = primary_metric(results)
    by_metric = point["quality"]["test"] if split == "test" else point["quality"]["validation"]
    return by_metric.get(metric) if metric else None


def row_of(results: Results, point: PointResult, cells: tuple[str, ...]) -> Row:
    """These cells as a row of the point, which looks like what the point is."""
    return Row(
        id=point["id"],
        cells=cells,
        selected=point["id"] == results["selected"],
        frontier=point["id"] in results["frontier"],
        reference=point["reference"],
        control=is_control(point),
    )


def _fidelity(point: PointResult) -> str:
    """`93.40 / 93.20 (n=512)`: the metric of the simulation in torch, and of its file."""
    found = point.get("fidelity")
    if found is None:
        return figures.NOT_MEASURED
    return f"{figures.percent(found['torch'])} / {figures.percent(found['onnx'])} (n={found['n']})"


def _points_caption(results: Results) -> str:
    latencies = [latency for point in results["points"] if (latency := deployment_latency(point)) is not None]
    if not latencies:
        return f"Sizes in kB of 1000 bytes; 95 % intervals in brackets. {agreement_means(results)}"
    first = latencies[0]
    return (
        f"Latency of graph {first['graph']} at batch {first['batch']} on {first['threads']} "
        f"thread{'s' if first['threads'] != 1 else ''}, {first['provider']}. Speed-up and size ratio against the "
        "baseline, the speed-up measured interleaved with it; kB of 1000 bytes; 95 % intervals in brackets. "
        f"{agreement_means(results)}"
    )


def _plain(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return figures.NOT_MEASURED if value is None else str(value)
