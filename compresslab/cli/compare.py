"""compresslab compare: two runs stage by stage, or two models measured side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compresslab.cli.options import ColumnNames, Debug

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from compresslab.cli.targets import Target
    from compresslab.measure.bench import BenchPoint
    from compresslab.measure.evaluate import EvalSplit
    from compresslab.measure.measurement import Estimate
    from compresslab.measure.samples import LatencySamples
    from compresslab.report.table import Row, Table

_RESULTS = "results.json"


def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="A run, an exported model's folder, or an ONNX file.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="What to compare with it, of the same kind.")],
    across_machines: Annotated[
        bool, typer.Option("--across-machines", help="Compare runs though they were measured on different machines.")
    ] = False,
    batch: Annotated[list[int] | None, typer.Option(min=1, help="Models: examples a call; repeatable.")] = None,
    threads: Annotated[list[int] | None, typer.Option(min=1, help="Models: threads; repeatable.")] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DATA", help="Models: labelled data for quality, .npz, folder or table.")
    ] = None,
    column: ColumnNames = None,
    graph: Annotated[
        str | None, typer.Option(metavar="NAME", help="Models: of several graphs the one to time.", show_default="each")
    ] = None,
    dim: Annotated[
        list[str] | None, typer.Option(metavar="NAME=SIZE", help="How long a dynamic axis is; repeatable.")
    ] = None,
    debug: Debug = False,  # noqa: ARG001 - kept by its callback
) -> None:
    """Show how B differs from A, each difference with its 95 % interval."""
    from compresslab.cli.options import columns, sizes
    from compresslab.cli.tables import show_table

    if all((path / _RESULTS).is_file() for path in (a, b)):
        from compresslab.cli.run_comparison import compare_runs

        table, notes = compare_runs(a, b, across_machines=across_machines)
    else:
        called = columns(column or ())
        table, notes = _compare_models(a, b, batch or [1], threads or [1], data, called, graph, sizes(dim or ()))
    show_table(table)
    typer.echo()
    for note in notes:
        typer.echo(f"note: {note}")


def _compare_models(
    a: Path,
    b: Path,
    batches: Sequence[int],
    threads: Sequence[int],
    data: Path | None,
    columns: Mapping[str, str],
    graph: str | None,
    dims: Mapping[str, int],
) -> tuple[Table, list[str]]:
    from itertools import product

    from compresslab.cli.bench import require_cores
    from compresslab.cli.targets import common_graphs, fed, made_up_note, resolve, subject
    from compresslab.measure.bench import BenchPoint, BenchSettings, record
    from compresslab.report.figures import change, kilobytes
    from compresslab.report.table import Column, Row, Table

    this, other = resolve(b), resolve(a)
    timed = [one if graph is None else one.only(graph) for one in (this, other)]
    graphs = common_graphs(timed)
    require_cores(threads)
    bare = this.artifact is None or other.artifact is None
    smaller = change(other.bytes / this.bytes, "smaller", "larger")
    rows = [Row("size", ("size, kB", kilobytes(other.bytes), kilobytes(this.bytes), smaller, ""))]
    notes = [f"A is {other.name}, B is {this.name}; measured here, interleaved"]
    examples = None
    if data is not None:
        split = _split(this, other, data, columns)
        rows += _quality_rows(this, other, split)
        examples = split.inputs
    notes += [] if examples is not None or bare else made_up_note(timed[0], graphs)
    inputs = fed(timed[0], graphs, data=examples is not None)
    subjects = [
        subject(
            one, one.name, batches, inputs=dict.fromkeys(inputs.values()), examples=examples, like=timed[0],
            dims=dims, bare=bare,
        )
        for one in timed
    ]  # fmt: skip
    points = tuple(
        BenchPoint(graph=name, batch=size, threads=count, inputs=inputs[name])
        for size, count, name in product(batches, threads, graphs)
    )
    settings = BenchSettings(points=points, processes=5, min_seconds=1.0, min_count=500)
    recorded = record(subjects, settings)
    for start in range(0, len(points), len(graphs)):
        stop = start + len(graphs)
        made, told = _latency_rows(timed, points[start:stop], recorded[start:stop])
        rows += made
        notes += told
    shown = tuple(Column(name, name in "AB", True) for name in ("", "A", "B", "B against A", "verdict"))
    return Table("", shown, tuple(rows)), notes


def _latency_rows(
    models: Sequence[Target], points: Sequence[BenchPoint], recorded: Sequence[Sequence[LatencySamples]]
) -> tuple[list[Row], list[str]]:
    """Both models at one batch and number of threads: every graph, and a call of each where there are several."""
    from compresslab.measure.comparison import compare as compare_samples
    from compresslab.measure.comparison import reasons
    from compresslab.measure.together import together
    from compresslab.report.figures import milliseconds
    from compresslab.report.table import Row

    point = points[0]
    where = f"batch {point.batch}, {point.threads} thread{'s' if point.threads > 1 else ''}"
    found: list[tuple[str, Sequence[Target], Sequence[LatencySamples]]] = []
    if len(points) == 1:
        found.append((f"p50 ms, {where}", models, recorded[0]))
    else:
        each = [together(samples) for samples in zip(*recorded, strict=True)]
        found.append((f"p50 ms, a call of each, {where}", models, each))
        for one, samples in zip(points, recorded, strict=True):
            found.append((f"p50 ms, {one.graph}, {where}", [model.only(one.graph) for model in models], samples))
    rows, notes = [], []
    for name, (this, other), (ours, theirs) in found:
        comparison = compare_samples(ours, theirs)
        times = (milliseconds(comparison.other_ms), milliseconds(comparison.this_ms), _speed(comparison.speedup))
        rows.append(Row(name, (name, *times, comparison.verdict.replace("_", " "))))
        if this.artifact is not None and other.artifact is not None:
            notes += [f"{name}: {why}" for why in reasons(comparison, this.artifact.manifest, other.artifact.manifest)]
    return rows, notes


def _split(this: Target, other: Target, data: Path, columns: Mapping[str, str]) -> EvalSplit:
    from compresslab.cli.labelled import labelled_data, require_same_answers
    from compresslab.errors import BadInput

    if this.artifact is None or other.artifact is None:
        raise BadInput("--data needs models that say how samples become their inputs: folders with a manifest.json")
    require_same_answers(this.artifact, other.artifact, (this.name, other.name))
    return labelled_data(data, this.artifact, columns)[0]


def _quality_rows(this: Target, other: Target, split: EvalSplit) -> list[Row]:
    from compresslab.measure.evaluate import predict
    from compresslab.measure.gate_quality import embedding_metrics
    from compresslab.measure.metric_names import CLASS_METRICS, SCORE_METRICS
    from compresslab.measure.metrics import METRICS
    from compresslab.measure.quality import quality, quality_delta
    from compresslab.report.figures import percent
    from compresslab.report.table import Row

    assert this.artifact is not None, "the split is of its kind"
    ours, theirs = (predict(one.artifact, split.inputs) for one in (this, other) if one.artifact is not None)
    rows = []
    fitting = {name: METRICS[name] for name in (SCORE_METRICS if split.targets.dtype.kind == "f" else CLASS_METRICS)}
    if this.artifact.manifest.embedding is not None:
        fitting = embedding_metrics(split)
    for name, metric in fitting.items():
        delta = quality_delta(metric, ours, theirs, split.targets)
        values = [percent(quality(metric, outputs, split.targets).value) for outputs in (theirs, ours)]
        verdict = "better" if delta.low > 0 else "worse" if delta.high < 0 else "no difference shown"
        rows.append(Row(name, (f"{name}, %", *values, _points(delta), verdict)))
    return rows


def _speed(estimate: Estimate) -> str:
    from compresslab.report.figures import change

    low, high = estimate.low, estimate.high
    if estimate.value < 1:
        low, high = 1 / high, 1 / low
    return f"{change(estimate.value, 'faster', 'slower')} [{low:.3g}, {high:.3g}]"


def _points(estimate: Estimate) -> str:
    value, low, high = (100 * one for one in (estimate.value, estimate.low, estimate.high))
    return f"{value:+.2f} [{low:+.2f}, {high:+.2f}] points"
