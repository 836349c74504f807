"""What a server calls a model: its bundle's name, with the graph's where there are several."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from compresslab.errors import BadInput

if TYPE_CHECKING:
    from compresslab.measure.artifact import Artifact

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def served_names(artifact: Artifact, name: str | None) -> dict[str, str]:
    """Each graph's name on the server, by the graph's name in the bundle.

    Args:
        artifact: The bundle.
        name: What the user calls it; None for the pipeline that made it, or else its folder.

    Raises:
        BadInput: A name would not do as a folder and in a URL.
    """
    base = name or _of_run(artifact) or artifact.folder.resolve().name
    several = len(artifact.graphs) > 1
    names = {graph: f"{base}-{graph}" if several else base for graph in artifact.graphs}
    for served in names.values():
        if not _NAME.fullmatch(served):
            raise BadInput(
                f"a model cannot be served as `{served}`: letters, digits, `_`, `-` and `.` make a name, the first "
                "a letter or digit; give another one with --name"
            )
    return names


def _of_run(artifact: Artifact) -> str | None:
    run = artifact.manifest.provenance.get("run")
    found = run.get("pipeline") if isinstance(run, dict) else None
    return found if isinstance(found, str) else None
