"""compresslab bench: latency, throughput and memory of models, side by side on this machine."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compresslab.cli.options import ColumnNames, Debug

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from compresslab.cli.targets import Target
    from compresslab.measure.preprocessing import Samples
    from compresslab.measure.subject import Subject
    from compresslab.measure.tower_samples import TowerSamples
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
    graph: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of models that have several.", show_default="each")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DATA", help="Samples to call with: of texts a file of them, at the lengths they have."),
    ] = None,
    column: ColumnNames = None,
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

    from compresslab.cli.options import columns, sizes
    from compresslab.cli.tables import show_table
    from compresslab.measure.bench import BenchPoint, BenchSettings
    from compresslab.measure.benching import benchmark
    from compresslab.measure.samples_file import write_samples
    from compresslab.report.writing import write_whole
    from compresslab.store import storage_errors

    require_cores(threads or [1])
    targets, graphs = _targets(models, graph)
    batches = batch or [1]
    inputs, subjects, notes = _subjects(
        targets,
        graphs,
        batches,
        provider,
        optimization,
        spinning,
        sizes(dim or ()),
        _data(models[0], graph, data, columns(column or ())),
    )
    points = tuple(
        BenchPoint(graph=name, batch=size, threads=used, io_binding=io_binding, inputs=inputs[name])
        for name, size, used in product(graphs, batches, threads or [1])
    )
    settings = BenchSettings(
        points=points, processes=processes, min_seconds=seconds, min_count=count, max_seconds=max(20.0, 4 * seconds)
    )
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
    for note in notes:
        typer.echo(f"note: {note}")
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


def _targets(models: Sequence[Path], graph: str | None) -> tuple[list[Target], tuple[str, ...]]:
    """The models, of `graph` alone where it is named, and the graphs to measure."""
    from compresslab.cli.targets import common_graphs, resolve

    targets = [resolve(path) for path in models]
    if graph is not None:
        targets = [target.only(graph) for target in targets]
    return targets, common_graphs(targets)


def _data(
    model: Path, graph: str | None, data: Path | None, columns: Mapping[str, str]
) -> Samples | TowerSamples | None:
    """Samples as the first model's preprocessing takes them."""
    if data is None:
        return None
    from compresslab.cli.labelled import samples_of
    from compresslab.cli.targets import resolve
    from compresslab.errors import BadInput

    artifact = resolve(model).artifact
    if artifact is None:
        raise BadInput(
            f"{model}: a bare ONNX file does not say how samples become its inputs, so --data cannot be used; give the "
            "folder of an exported model, which has a manifest.json"
        )
    return samples_of(data, artifact, graph, columns)


def _subjects(
    targets: Sequence[Target],
    graphs: Sequence[str],
    batches: Sequence[int],
    providers: Sequence[str] | None,
    levels: Sequence[str] | None,
    spinning: bool | None,
    dims: Mapping[str, int],
    examples: Samples | TowerSamples | None,
) -> tuple[dict[str, str], list[Subject], list[str]]:
    """What each graph is fed, the models with each of the session's options, and what to say of them."""
    from compresslab.cli.targets import fed, made_up_note, subject

    bare = any(target.artifact is None for target in targets)
    inputs = fed(targets[0], graphs, data=examples is not None and not bare)
    notes = [] if examples is not None or bare else made_up_note(targets[0], graphs)
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
        for graph in target.graphs:
            target.inputs(graph, session)
        label = " ".join(value for value in (name, level) if value is not None)
        named = f"{target.name} ({label})" if label else target.name
        made = subject(
            target, named, batches, inputs=dict.fromkeys(inputs.values()), examples=examples, like=targets[0],
            dims=dims, session=session, bare=bare,
        )  # fmt: skip
        subjects.append(made)
    return inputs, subjects, notes


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

    several = len({point["graph"] for model in document["models"] for point in model["points"]}) > 1
    graph = (Column("graph", essential=True),) if several else ()
    columns = (
        Column("model", essential=True), *graph, Column("batch", True, True), Column("threads", True, True),
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
                model["name"], *([point["graph"]] if several else []), str(point["batch"]),
                str(point["threads"]), interval(point["p50"]),
                interval(point["p90"]), *tail, significant(point["examples_per_second"]),
                interval(point["speedup_over_first"], "x"), significant(model["load_ms"]),
                significant(model["first_ms"]), significant(model["peak_rss_mb"]),
            )  # fmt: skip
            rows.append(Row(model["name"], cells))
    return Table("", columns, tuple(rows))
