"""compresslab export: from a run to what a server loads."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compresslab.cli.options import Debug

if TYPE_CHECKING:
    from collections.abc import Sequence

    from compresslab.measure.artifact import Artifact
    from compresslab.serving.exporting import Exported, Format


class Layout(StrEnum):
    """What --format takes."""

    TRITON = "triton"
    MLSERVER = "mlserver"
    ONNX = "onnx"
    OPTIMUM = "optimum"


class Backend(StrEnum):
    """What --backend takes."""

    ONNXRUNTIME = "onnxruntime"
    PYTHON = "python"


class Pixels(StrEnum):
    """What --pixels takes: `measure.preprocessing.PixelInput`, which cannot be loaded to print the help."""

    UINT8_NHWC = "uint8-nhwc"
    UINT8_NCHW = "uint8-nchw"
    FLOAT32_NHWC = "float32-nhwc"
    FLOAT32_NCHW = "float32-nchw"


def export(
    model: Annotated[Path, typer.Argument(metavar="RUN_OR_BUNDLE", help="A run (its selected model) or a bundle.")],
    to: Annotated[Layout, typer.Option("--format", help="For which server.")],
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where to.", show_default="the run or bundle's name with the format's"),
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="The model's, on the server.", show_default="the pipeline's")
    ] = None,
    backend: Annotated[Backend, typer.Option(help="Triton's.")] = Backend.ONNXRUNTIME,
    fold: Annotated[
        bool, typer.Option("--fold-preprocessing", help="Put the normalization into the graph: it takes raw pixels.")
    ] = False,
    pixels: Annotated[Pixels, typer.Option(help="How a folded graph takes them.")] = Pixels.UINT8_NHWC,
    measure: Annotated[
        bool, typer.Option("--measure", help="Measure batch sizes on this machine, to set up the server by.")
    ] = False,
    cores: Annotated[
        int | None,
        typer.Option(min=1, help="Of the machine that serves.", show_default="where it was measured"),
    ] = None,
    max_batch: Annotated[int, typer.Option(min=1, help="Examples that one request may have.")] = 64,
    dim: Annotated[
        list[str] | None, typer.Option(metavar="NAME=SIZE", help="How long --measure takes a dynamic axis; repeatable.")
    ] = None,
    debug: Debug = False,  # noqa: ARG001 - kept by its callback
) -> None:
    """Write a bundle as a Triton repository, for MLServer, for Optimum, or as plain ONNX."""
    from compresslab.measure.artifact import load_artifact
    from compresslab.serving.exporting import export_bundle

    layout = _layout(to)
    artifact = load_artifact(model)
    latencies, used = _measured(artifact, measure, cores, dim or ())
    where = out or model.resolve().with_name(f"{model.resolve().name}-{to.value}")
    exported = export_bundle(
        artifact,
        where,
        layout,
        name=name,
        backend=backend.value,
        fold=pixels.value if fold else None,
        latencies=latencies,
        cores=used,
        max_batch=max_batch,
    )
    _tell(exported, to)


def _layout(to: Layout) -> Format:
    match to:
        case Layout.TRITON:
            return "triton"
        case Layout.MLSERVER:
            return "mlserver"
        case Layout.ONNX:
            return "onnx"
        case Layout.OPTIMUM:
            return "optimum"


def _measured(artifact: Artifact, here: bool, cores: int | None, dim: Sequence[str]) -> tuple[Any, int]:
    """Latencies, None for the bundle's own, and the cores to plan for."""
    from compresslab.cli.options import sizes
    from compresslab.measure.machine import usable_cores
    from compresslab.serving.measuring import measure_for_serving

    if here:
        return measure_for_serving(artifact, usable_cores(), sizes(dim)), cores or usable_cores()
    run = artifact.manifest.provenance.get("run")
    machine = run.get("machine") if isinstance(run, dict) else None
    known = machine.get("cores") if isinstance(machine, dict) else None
    return None, cores or (known if isinstance(known, int) and known > 0 else usable_cores())


def _tell(exported: Exported, to: Layout) -> None:
    for name, folder in exported.models.items():
        typer.echo(f"{name}: {folder}")
        for why in exported.plans[name].why:
            typer.echo(f"  {why}")
    if exported.folded_difference is not None:
        typer.echo(f"normalization is in the graph; outputs differ by {exported.folded_difference:.2g} at most")
    for note in exported.notes:
        typer.echo(f"note: {note}")
    match to:
        case Layout.TRITON:
            typer.echo(f"start it with: tritonserver --model-repository={exported.folder}")
        case Layout.MLSERVER:
            typer.echo(f"start it with: python -P -m compresslab.serving.mlserver_start {exported.folder}")
        case Layout.OPTIMUM:
            for folder, loader in exported.loaded_by.items():
                typer.echo(f"load it with: {loader}.from_pretrained({str(folder)!r})")
        case _:
            typer.echo(f"a bundle: {exported.folder}")
