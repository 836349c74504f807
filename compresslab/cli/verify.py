"""compresslab verify: whether a bundle is what was exported."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compresslab.cli.options import Debug


def verify(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle, an exported model's folder, or a run.")],
    debug: Debug = False,  # noqa: ARG001 - kept by its callback
) -> None:
    """Check every hash of a bundle, its manifest against its graphs, and that they run."""
    from compresslab.bundle.verifying import verify as check
    from compresslab.serving.mlserver_layout import MODEL_SETTINGS

    verified = check(bundle, frozenset({MODEL_SETTINGS}))
    for said in verified.checks:
        typer.echo(f"ok: {said}")
    typer.echo(
        f"{verified.artifact.folder}: sha256 of manifest.json, which has every other: {verified.manifest_sha256}"
    )
