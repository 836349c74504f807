"""compresslab schema: what a pipeline file may say, for editors."""

from __future__ import annotations

import json

import typer


def schema() -> None:
    """Print the JSON Schema of pipeline files; editors complete and check from it."""
    from compresslab.config import pipeline_schema

    typer.echo(json.dumps(pipeline_schema(), indent=2))
