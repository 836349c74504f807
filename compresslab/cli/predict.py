"""compresslab predict: what a bundle answers, as the reference for every other client."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compresslab.cli.options import Debug

if TYPE_CHECKING:
    from compresslab.bundle.predicting import Prediction

_VALUES = 8


def predict(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle, an exported model's folder, or a run.")],
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="Images, or a folder of them; a text, or a .txt file with one a line; .npy with pixels or input "
            "tensors; .npz, an array an input.",
        ),
    ],
    top: Annotated[int, typer.Option(min=1, help="How many labels to tell.")] = 3,
    graph: Annotated[str | None, typer.Option(metavar="NAME", help="Of a bundle that has several.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    debug: Debug = False,  # noqa: ARG001 - kept by its callback
) -> None:
    """Run a model on images, texts or arrays, with its own preprocessing; needs no torch."""
    import json

    from compresslab.bundle.predicting import choose_graph, predictions, reading_notes
    from compresslab.measure.artifact import load_artifact

    artifact = load_artifact(bundle)
    chosen = choose_graph(artifact, graph)
    for note in reading_notes(artifact.only(chosen), inputs):
        typer.echo(note, err=True)
    for prediction in predictions(artifact, chosen, inputs):
        typer.echo(json.dumps(prediction.plain(top), ensure_ascii=False) if json_ else _line(prediction, top))


def _line(prediction: Prediction, top: int) -> str:
    name = prediction.source if prediction.row is None else f"{prediction.source}[{prediction.row}]"
    if prediction.labels:
        return f"{name}: " + ", ".join(f"{label} {100 * share:.1f} %" for label, share in prediction.labels[:top])
    if prediction.score is not None:
        return f"{name}: {prediction.score[0]} {prediction.score[1]:.6g}"
    told = []
    for output, value in prediction.outputs.items():
        numbers = [f"{number:.6g}" for number in value.ravel()[:_VALUES].tolist()]
        told.append(f"{output} {list(value.shape)} = {', '.join(numbers)}{', ...' if value.size > _VALUES else ''}")
    return f"{name}: " + "; ".join(told)
