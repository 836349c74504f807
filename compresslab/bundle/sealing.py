"""Makes a folder of exported graphs a bundle: a manifest that has the hash of every file in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compresslab.digest import digest_file
from compresslab.measure.artifact import MANIFEST, Artifact, Manifest, load_artifact, write_manifest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

CARD_FILE = "README.md"
LABELS_FILE = "labels.txt"


def seal(folder: Path, manifest: Manifest, card: str) -> Artifact:
    """Writes labels, card and manifest beside the graphs that lie in `folder`, and returns what can be loaded from it.

    Args:
        folder: Holds the graphs' files, and whatever else is to belong to the bundle.
        manifest: Its `files` are written anew.
        card: The README, Markdown.

    Raises:
        ArtifactError: A graph is missing, or is not what the manifest says.
    """
    if manifest.labels:
        (folder / LABELS_FILE).write_text(labels_text(manifest.labels), encoding="utf-8")
    (folder / CARD_FILE).write_text(card, encoding="utf-8")
    graphs = {info.file for info in manifest.graphs.values()}
    others = sorted(path for path in folder.iterdir() if path.name not in graphs | {MANIFEST})
    files = {path.name: digest_file(path) for path in others}
    write_manifest(folder, manifest.model_copy(update={"files": files}))
    return load_artifact(folder, verify=True)


def labels_text(labels: Sequence[str]) -> str:
    """The labels in the order of the outputs, one a line, as servers read them; a line break in one is a space."""
    return "".join(f"{' '.join(label.splitlines())}\n" for label in labels)
