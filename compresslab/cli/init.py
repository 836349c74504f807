"""compresslab init: a first pipeline from a model and data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compresslab.cli.options import Debug


def init(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A timm name, a checkpoint's folder, one of `save_pretrained`, or an .onnx file."
        ),
    ],
    data: Annotated[
        Path,
        typer.Argument(metavar="DATA", help="A folder of images, an .npz, or a .csv, .jsonl or .parquet of texts."),
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The pipeline.", show_default="the data's name with .yaml")
    ] = None,
    debug: Debug = False,  # noqa: ARG001 - kept by its callback
) -> None:
    """Look at a model and data, and write a pipeline to edit: sizes, labels, metric, stages, a budget."""
    from compresslab.cli.first_pipeline import first_pipeline
    from compresslab.cli.found_data import look_at_data
    from compresslab.cli.found_model import look_at_model
    from compresslab.errors import BadInput
    from compresslab.store import storage_errors

    place = out or Path(f"{data.resolve().stem}.yaml")
    if place.exists():
        raise BadInput(f"{place}: is there already, and is not replaced; choose another name with --out")
    text = first_pipeline(look_at_model(model), look_at_data(data), data, place)
    with storage_errors(place.parent), place.open("x", encoding="utf-8") as file:
        file.write(text)
    typer.echo(text)
    typer.echo(f"written to {place}; next: compresslab run {place} --plan")
