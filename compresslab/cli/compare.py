"""compresslab compare: two runs stage by stage, or two models measured side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compresslab.cli.options import Debug

if TYPE_CHECKING:
    from collections.abc import Sequence

    from compresslab.cli.targets import Target
    from compresslab.measure.measurement import Estimate
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
        Path | None, typer.Option(metavar="DATA", help="Models: labelled data for quality, .npz or folder.")
    ] = None,
    dim: Annotated[
        list[str] | None, typer.Option(metavar="NAME=SIZE", help="How long a dynamic axis is; repeatable.")
    ] = None,
    debug: Debug = False,  # noqa: ARG001 - kept by its callback
) -> None:
    """Show how B differs from A, each difference with its 95 % interval."""
    from compresslab.cli.tables import show_table

    if all((path / _RESULTS).is_file() for path in (a, b)):
        from compresslab.cli.run_comparison import compare_runs

        table, notes = compare_runs(a, b, across_machines=across_machines)
    else:
        table, notes = _compare_models(a, b, batch or [1], threads or [1], data, dim or ())
    show_table(table)
    typer.echo()
    for note in notes:
        typer.echo(f"note: {note}")


def _compare_models(
    a: Path, b: Path, batches: Sequence[int], threads: Sequence[int], data: Path | None, dim: Sequence[str]
) -> tuple[Table, list[str]]:
    from itertools import product

    from compresslab.cli.bench import require_cores
    from compresslab.cli.options import sizes
    from compresslab.cli.targets import resolve, subject
    from compresslab.measure.bench import BenchPoint, BenchSettings, record
    from compresslab.measure.comparison import compare as compare_samples
    from compresslab.measure.comparison import reasons
    from compresslab.measure.onnx_file import require_same_inputs
    from compresslab.report.figures import change, kilobytes, milliseconds
    from compresslab.report.table import Column, Row, Table

    this, other = resolve(b), resolve(a)
    require_same_inputs(this.inputs("model"), other.inputs("model"), (this.name, other.name))
    require_cores(threads)
    bare = this.artifact is None or other.artifact is None
    points = tuple(BenchPoint(batch=size, threads=count) for size, count in product(batches, threads))
    settings = BenchSettings(points=points, processes=5, min_seconds=1.0, min_count=500)
    subjects = [subject(one, one.name, batches, dims=sizes(dim), bare=bare) for one in (this, other)]
    smaller = change(other.bytes / this.bytes, "smaller", "larger")
    rows = [Row("size", ("size, kB", kilobytes(other.bytes), kilobytes(this.bytes), smaller, ""))]
    notes = [f"A is {other.name}, B is {this.name}; measured here, interleaved"]
    if data is not None:
        rows += _quality_rows(this, other, data)
    for point, (ours, theirs) in zip(points, record(subjects, settings), strict=True):
        found = compare_samples(ours, theirs)
        name = f"p50 ms, batch {point.batch}, {point.threads} thread{'s' if point.threads > 1 else ''}"
        times = (milliseconds(found.other_ms), milliseconds(found.this_ms), _speed(found.speedup))
        rows.append(Row(name, (name, *times, found.verdict.replace("_", " "))))
        if this.artifact is not None and other.artifact is not None:
            notes += [f"{name}: {why}" for why in reasons(found, this.artifact.manifest, other.artifact.manifest)]
    columns = tuple(Column(name, name in "AB", True) for name in ("", "A", "B", "B against A", "verdict"))
    return Table("", columns, tuple(rows)), notes


def _quality_rows(this: Target, other: Target, data: Path) -> list[Row]:
    from compresslab.cli.labelled import labelled_data
    from compresslab.errors import BadInput
    from compresslab.measure.evaluate import predict
    from compresslab.measure.metric_names import CLASS_METRICS, RETRIEVAL_METRICS, SCORE_METRICS
    from compresslab.measure.metrics import METRICS
    from compresslab.measure.quality import quality, quality_delta
    from compresslab.report.figures import percent
    from compresslab.report.table import Row

    if this.artifact is None or other.artifact is None:
        raise BadInput("--data needs models that say how samples become their inputs: folders with a manifest.json")
    split, _ = labelled_data(data, this.artifact)
    ours, theirs = (predict(one.artifact, split.inputs) for one in (this, other) if one.artifact is not None)
    rows = []
    fitting: tuple[str, ...] = CLASS_METRICS if this.artifact.manifest.target is None else SCORE_METRICS
    if this.artifact.manifest.embedding is not None:
        fitting = RETRIEVAL_METRICS if split.targets.dtype.kind == "i" else ("similarity",)
    for name in fitting:
        metric = METRICS[name]
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
