"""The README of an exported model: how it is called, what it takes, and why the server is set up so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compresslab.bundle.interface import files, inputs_and_outputs, use
from compresslab.report.markdown_syntax import bullets, escape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from compresslab.measure.artifact import Manifest
    from compresslab.serving.plan import ServingPlan


def server_card(name: str, manifest: Manifest, plan: ServingPlan | None = None, told: Sequence[str] = ()) -> str:
    """The card as Markdown; without the figures of a run, which the bundle's own card has."""
    parts = [f"# {escape(name)}", *use(manifest), *inputs_and_outputs(manifest)]
    if plan is not None:
        parts += ["## Served with", "\n".join([*(f"- {one}" for one in told), bullets(plan.why)])]
    return "\n\n".join(part for part in [*parts, *files(manifest)] if part) + "\n"
