"""compresslab bench: latency, throughput and memory of models, side by side on this machine."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compresslab.cli.options import Debug

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from compresslab.measure.subject import Subject
    from compresslab.report.table import Table

_DOCUMENT = "bench.json"
_SAMPLES = "samples.npz"


def bench(
    models: Annotated[
        list[Path], typer.Argument(metavar="MODEL_OR_RUN...", help="ONNX files, exported models' folders, or runs.")
    ],
    batch: Annotated[list[int] | None, typer.Option(min=1, help="Examples a call; repeatable.")] = None,
    threads: Annotated[list[int] | None, typer.Option(min=1, help="Threads in an operator; repeatable.")] = None,
    provider: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Execution provider, as OpenVINO; repeatable.")
    ] = None,
    optimization: Annotated[
        list[str] | None,
        typer.Option(metavar="LEVEL", help="Of the graph: all, extended, basic, disabled; repeatable."),
    ] = None,
    spinning: Annotated[
        bool | None,
        typer.Option("--spinning/--no-spinning", help="Whether idle threads spin.", show_default="as the model says"),
    ] = None,
    io_binding: Annotated[
        bool, typer.Option("--io-binding", help="Tie inputs and outputs to the session, as some servers do.")
    ] = False,
    processes: Annotated[int, typer.Option(min=2, help="Fresh processes.")] = 5,
    seconds: Annotated[float, typer.Option(min=0.01, help="Measure each at each point for at least so long,")] = 2.0,
    count: Annotated[int, typer.Option(min=1, help="and so many calls.")] = 1000,
    dim: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=SIZE", help="How long a dynamic axis of a bare ONNX file is; repeatable."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help=f"Write {_DOCUMENT} and the raw {_SAMPLES} there.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the document, not the table.")] = False,
    debug: Debug = False,  # noqa: ARG001 - kept by its callback
) -> None:
    """Measure models interleaved in fresh processes, with the noise of the machine told."""
    import json

    from compresslab.cli.tables import show_table
    from compresslab.measure.bench import BenchPoint, BenchSettings
    from compresslab.measure.benching import benchmark
    from compresslab.measure.samples_file import write_samples
    from compresslab.report.writing import write_whole
    from compresslab.store import storage_errors

    batches = batch or [1]
    points = tuple(
        BenchPoint(batch=size, threads=used, io_binding=io_binding) for size, used in product(batches, threads or [1])
    )
    settings = BenchSettings(
        points=points, processes=processes, min_seconds=seconds, min_count=count, max_seconds=max(20.0, 4 * seconds)
    )
    require_cores(threads or [1])
    subjects = _subjects(models, batches, provider, optimization, spinning, dim or ())
    document, recorded = benchmark(subjects, settings)
    if out is not None:
        write_whole(out / _DOCUMENT, json.dumps(document, indent=1) + "\n")
        with storage_errors(out):
            write_samples(out / _SAMPLES, recorded)
    if json_:
        typer.echo(json.dumps(document, indent=1))
        return
    show_table(_table(document))
    typer.echo()
    noise = document["noise"]
    typer.echo(f"noise: the same model, measured twice, differs by up to {100 * noise['smallest_difference']:.2f} %")
    if noise["warning"]:
        typer.echo(f"warning: {noise['warning']}", err=True)


def require_cores(threads: Sequence[int]) -> None:
    """Refuses more threads than can run at once.

    Raises:
        BadInput: There are not so many cores.
    """
    from compresslab.errors import BadInput
    from compresslab.measure.machine import usable_cores

    cores = usable_cores()
    if max(threads) > cores:
        raise BadInput(
            f"`--threads {max(threads)}` cannot be measured: this process may use {cores} "
            f"core{'s' if cores > 1 else ''}; ask for fewer"
        )


def _subjects(
    models: Sequence[Path],
    batches: Sequence[int],
    providers: Sequence[str] | None,
    levels: Sequence[str] | None,
    spinning: bool | None,
    dim: Sequence[str],
) -> list[Subject]:
    from compresslab.cli.options import sizes
    from compresslab.cli.targets import resolve, subject
    from compresslab.measure.onnx_file import require_same_inputs

    targets = [resolve(path) for path in models]
    signatures = [target.inputs("model") for target in targets]
    for target, signature in zip(targets[1:], signatures[1:], strict=True):
        require_same_inputs(signature, signatures[0], (target.name, targets[0].name))
    bare = any(target.artifact is None for target in targets)
    subjects = []
    names: Sequence[str | None] = providers or [None]
    optimizations: Sequence[str | None] = levels or [None]
    for target, name, level in product(targets, names, optimizations):
        changes = {
            "provider": None if name is None else name.removesuffix("ExecutionProvider") + "ExecutionProvider",
            "graph_optimization": level,
            "allow_spinning": spinning,
        }
        session = _session(target.session, {key: value for key, value in changes.items() if value is not None})
        # Here, where it is the user's mistake, and not in the measuring process, where it would look like ours.
        target.inputs("model", session)
        label = " ".join(value for value in (name, level) if value is not None)
        named = f"{target.name} ({label})" if label else target.name
        subjects.append(subject(target, named, batches, dims=sizes(dim), session=session, bare=bare))
    return subjects


def _session(default: Any, changes: Mapping[str, object]) -> Any:
    from pydantic import ValidationError

    from compresslab.errors import BadInput

    try:
        return type(default).model_validate({**default.model_dump(), **changes})
    except ValidationError as error:
        found = error.errors()[0]
        raise BadInput(f"{'.'.join(map(str, found['loc']))}: {found['msg']}, but got {found['input']!r}") from error


def _table(document: Mapping[str, Any]) -> Table:
    from compresslab.report.figures import NOT_MEASURED, significant
    from compresslab.report.table import Column, Row, Table

    columns = (
        Column("model", essential=True), Column("batch", True, True), Column("threads", True, True),
        Column("p50 ms", True, True), Column("p90", True, True), Column("p99", True), Column("p99.9", True),
        Column("examples/s", True), Column("speed-up", True, True), Column("load ms", True), Column("first ms", True),
        Column("MB", True),
    )  # fmt: skip

    def interval(found: Mapping[str, float] | None, suffix: str = "") -> str:
        if found is None:
            return NOT_MEASURED
        value, low, high = (significant(found[key]) for key in ("value", "low", "high"))
        return f"{value}{suffix} [{low}, {high}]"

    rows = []
    for model in document["models"]:
        for point in model["points"]:
            tail = [
                NOT_MEASURED if point[name] is None else significant(point[name]["value"]) for name in ("p99", "p999")
            ]
            cells = (
                model["name"], str(point["batch"]), str(point["threads"]), interval(point["p50"]),
                interval(point["p90"]), *tail, significant(point["examples_per_second"]),
                interval(point["speedup_over_first"], "x"), significant(model["load_ms"]),
                significant(model["first_ms"]), significant(model["peak_rss_mb"]),
            )  # fmt: skip
            rows.append(Row(model["name"], cells))
    return Table("", columns, tuple(rows))
