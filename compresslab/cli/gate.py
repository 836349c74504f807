"""compresslab gate: one model against a budget, for continuous integration."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compresslab.cli.options import ColumnNames, Debug

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from compresslab.cli.targets import Target
    from compresslab.measure.checked import Check, GateResult
    from compresslab.measure.evaluate import EvalSplit
    from compresslab.measure.gate_budget import GateBudget
    from compresslab.measure.measurement import Measurement

_SMALLEST_TIME_LIMIT = 1.0


def gate(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL_OR_RUN", help="An ONNX file, an exported model's folder, or a run.")
    ],
    budget: Annotated[Path, typer.Option("--budget", metavar="BUDGET.yaml", help="The limits.")],
    baseline: Annotated[
        Path | None,
        typer.Option(metavar="MODEL_OR_RUN", help="What relative limits are against; measured here, interleaved."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DATA", help="Labelled data for quality: an .npz file, a folder of images, or a table of texts."
        ),
    ] = None,
    column: ColumnNames = None,
    metric: Annotated[
        str | None,
        typer.Option(metavar="python:MODULE:FUNCTION", help="A metric of your own, for --data; its code is run."),
    ] = None,
    time_limit: Annotated[
        float, typer.Option(min=_SMALLEST_TIME_LIMIT, metavar="SECONDS", help="For latency; then it is inconclusive.")
    ] = 60.0,
    dim: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=SIZE", help="How long a dynamic axis of a bare ONNX file is; repeatable."),
    ] = None,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Write JUnit XML.")] = None,
    bmf: Annotated[Path | None, typer.Option(metavar="FILE", help="Write Bencher Metric Format.")] = None,
    github_benchmark: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write github-action-benchmark's JSON, one file a direction."),
    ] = None,
    summary: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Append Markdown, as to $GITHUB_STEP_SUMMARY.")
    ] = None,
    debug: Debug = False,  # noqa: ARG001 - kept by its callback
) -> None:
    """Measure a model until its budget is decided: ends with 0 within, 1 over, 3 if it cannot be told."""
    from compresslab.cli.options import columns, sizes

    called = columns(column or ())
    result = _gate(model, budget, baseline, data, called, metric, time_limit, sizes(dim or ()))
    # What shows a result is loaded after the measuring, which should begin at once.
    from compresslab.cli.results import BUDGET_CODES

    _show(result)
    _write(result, junit, bmf, github_benchmark, summary)
    raise typer.Exit(BUDGET_CODES[result.status])


def _gate(
    model: Path,
    budget: Path,
    baseline: Path | None,
    data: Path | None,
    columns: Mapping[str, str],
    metric: str | None,
    time_limit: float,
    dims: Mapping[str, int],
) -> GateResult:
    from compresslab.cli.targets import common_graphs, fed, made_up_note, resolve, run_baseline, subject
    from compresslab.measure import gate as gating
    from compresslab.measure.gate_budget import GateBudget
    from compresslab.measure.gate_latency import latency_limits
    from compresslab.strict_yaml import read
    from compresslab.validation import validate

    limits = validate(read(budget), GateBudget)
    this = resolve(model)
    other = None
    if baseline is not None:
        other = resolve(baseline)
    elif gating.needs_baseline(limits):
        other = run_baseline(this)
    for name in (limits.graph, *limits.graphs):
        if name is not None:
            this.only(name)
    models = [one for one in (this, other) if one is not None]
    bare = any(one.artifact is None for one in models)
    alone = limits.graph if not limits.graphs else None
    measured = models if alone is None else [one.only(alone) for one in models]
    graphs = common_graphs(measured)
    if bare:
        limits = limits.model_copy(update={"graph": None})
    split, notes = _data(data, this, columns)
    quality = _quality(limits, this, other, split, given=baseline is not None, own=_own(metric))
    gating.require_measurable(limits, other is not None, quality is not None)
    inputs = fed(this, graphs, data=split is not None and not bare)
    notes += made_up_note(this, graphs) if split is None and not bare and latency_limits(limits) else []
    batches = sorted({limits.batch, *map(limits.batch_of, graphs)})

    def gated(target: Target, size: int) -> gating.Gated:
        made = subject(
            target, target.name, batches, inputs=dict.fromkeys(inputs.values()), like=this, dims=dims, bare=bare,
            examples=None if split is None else split.inputs,
        )  # fmt: skip
        return gating.Gated(made, size, inputs)

    subjects = [gated(target, whole.bytes) for target, whole in zip(measured, models, strict=True)]
    return gating.gate(
        limits,
        subjects[0],
        None if other is None else subjects[1],
        quality,
        time_limit,
        lambda message: typer.echo(message, err=True),
        notes,
    )


def _data(data: Path | None, this: Target, columns: Mapping[str, str]) -> tuple[EvalSplit | None, list[str]]:
    if data is None:
        return None, []
    from compresslab.cli.labelled import labelled_data
    from compresslab.errors import BadInput

    if this.artifact is None:
        raise BadInput(
            f"{this.name}: a bare ONNX file does not say how samples become its inputs, so --data cannot be used; "
            "give the folder of an exported model, which has a manifest.json"
        )
    split, note = labelled_data(data, this.artifact, columns)
    return split, [note]


def _quality(
    limits: GateBudget,
    this: Target,
    other: Target | None,
    split: EvalSplit | None,
    *,
    given: bool,
    own: str | None,
) -> Callable[[int], list[Check]] | None:
    """How the limits on quality will be checked; None where there are none, or nothing to check them on.

    `given` is whether `other` was named on the command line: then the run's own figures are not against it.
    """
    from compresslab.errors import BadInput
    from compresslab.measure.gate_quality import is_drop, measured_quality, quality_keys, recorded_quality

    keys = quality_keys(limits)
    if not keys:
        return None
    drops = [key for key in keys if is_drop(key)]
    if split is not None and this.artifact is not None:
        artifact, reference = this.artifact, None if other is None else other.artifact
        if drops and reference is None:
            raise BadInput(
                f"{_named(drops)}: from a baseline, and there is none that can be evaluated; give --baseline"
            )
        if limits.retention:
            raise BadInput("`retention`: of the teacher, which is known to a run only; leave out --data, or the key")
        if reference is not None and drops:
            from compresslab.cli.labelled import require_same_answers

            assert other is not None, "a reference is its artifact"
            require_same_answers(artifact, reference, (this.name, other.name))
        return lambda together: measured_quality(limits, artifact, reference, split, together, own)
    if this.run is None or this.point is None:
        return None
    if drops and given:
        raise BadInput(f"{_named(drops)}: the run did not measure this baseline; give labelled data as --data")
    measurement = _measurement(this.run / "stages" / this.point / "measurement.json")
    return lambda _: recorded_quality(limits, measurement)


def _own(metric: str | None) -> str | None:
    """The user's metric, if what was named is one."""
    from compresslab.errors import BadInput
    from compresslab.measure.metric_names import OWN

    if metric is not None and not (metric.startswith(OWN) and ":" in metric.removeprefix(OWN)):
        raise BadInput(f"`--metric` is python:module:function, a metric of your own, but got `{metric}`; built-in ones "
                       "need only be limited in the budget")  # fmt: skip
    return metric


def _measurement(path: Path) -> Measurement:
    import json

    from compresslab.errors import ArtifactError
    from compresslab.measure.measurement_io import from_json

    try:
        return from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: cannot be read ({error}); run the pipeline again, or give --data") from error


def _named(keys: Sequence[str]) -> str:
    return ", ".join(f"`{key}`" for key in keys)


def _show(result: GateResult) -> None:
    from compresslab.cli.tables import show_table
    from compresslab.measure.ci_formats import workflow_commands
    from compresslab.report.table import Column, Row, Table

    columns = (
        Column("limit", essential=True),
        Column("asked", essential=True),
        Column("found", essential=True),
        Column("status", essential=True),
    )
    rows = tuple(Row(check.key, (check.key, check.asked, check.answer, check.status)) for check in result.checks)
    against = f" against {result.baseline}" if result.baseline else ""
    show_table(Table("", columns, rows))
    typer.echo()
    for check in result.checks:
        if check.why:
            typer.echo(f"{check.key}: {check.why}")
    for note in result.notes:
        typer.echo(f"note: {note}")
    took = f"{result.processes} processes, {result.seconds:.1f} s"
    typer.echo(f"{result.status}: {result.model}{against}, {result.where}; {took}")
    if os.environ.get("GITHUB_ACTIONS") == "true":
        for line in workflow_commands(result):
            typer.echo(line)


def _write(
    result: GateResult, junit: Path | None, bmf: Path | None, github_benchmark: Path | None, summary: Path | None
) -> None:
    import json

    from compresslab.measure import ci_formats
    from compresslab.report.writing import write_whole
    from compresslab.store import storage_errors

    if junit is not None:
        write_whole(junit, ci_formats.junit(result))
    if bmf is not None:
        write_whole(bmf, _json(ci_formats.bencher(result)))
    if github_benchmark is not None:
        for direction, entries in ci_formats.github_benchmark(result).items():
            write_whole(github_benchmark / f"{direction}.json", json.dumps(entries, indent=1) + "\n")
    if summary is not None:
        with storage_errors(summary.parent), summary.open("a", encoding="utf-8") as file:
            file.write(ci_formats.step_summary(result))


def _json(plain: Mapping[str, object]) -> str:
    import json

    return json.dumps(plain, indent=1) + "\n"
