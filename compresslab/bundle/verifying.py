"""Checks a bundle: the files are those of its manifest, and the manifest tells the truth of its graphs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from compresslab.bundle.sealing import CARD_FILE, LABELS_FILE, labels_text
from compresslab.digest import digest_file
from compresslab.errors import ArtifactError
from compresslab.measure.artifact import MANIFEST, load_artifact
from compresslab.measure.onnx_file import described, differences, onnx_subject
from compresslab.measure.runtime import RUNTIME_ERRORS
from compresslab.measure.session import open_session
from compresslab.measure.subject import made_up_samples

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from compresslab.measure.artifact import Artifact, GraphInfo

_ROWS = 2
_LENGTH = 8
"""How long every dynamic axis is in the trial run, but the first, which is the batch."""


@dataclass(frozen=True)
class Verified:
    """A bundle that was checked. `manifest_sha256` stands for all of it: the manifest has every other hash."""

    artifact: Artifact
    manifest_sha256: str
    checks: tuple[str, ...]


def verify(path: Path | str, editable: frozenset[str] = frozenset()) -> Verified:
    """Checks every hash, and what the manifest says against the graphs, and runs each graph once.

    Args:
        path: A bundle, an exported model's folder, or a run folder, which stands for its `selected/`.
        editable: Names of files that may lie beside the manifest's, as a server's settings do.

    Raises:
        ArtifactError: Something is wrong; the message has every problem that was found, one a line.
    """
    artifact = load_artifact(path, verify=True)  # a graph that was changed is not opened
    manifest = artifact.manifest
    done = [f"every file that the manifest lists ({len(manifest.graphs) + len(manifest.files)}) has its SHA-256"]
    problems: list[str] = []
    if CARD_FILE in manifest.files:  # a folder that is no bundle is a stage's, and has other files by right
        problems += _unlisted(artifact, editable)
        beside = [name for name in sorted(editable) if (artifact.folder / name).exists()]
        done.append("no other file lies here" + "".join(f", but `{name}`, which may be edited" for name in beside))
    for said, find in _CHECKS:
        found = list(find(artifact))
        problems += found
        done.append(said)
    if problems:
        raise ArtifactError("\n".join(f"{artifact.folder}: {problem}" for problem in problems))
    return Verified(artifact, digest_file(artifact.folder / MANIFEST), tuple(done))


def _unlisted(artifact: Artifact, editable: frozenset[str]) -> Iterator[str]:
    manifest = artifact.manifest
    known = {info.file for info in manifest.graphs.values()} | set(manifest.files) | {MANIFEST} | editable
    for file in sorted(artifact.folder.iterdir()):
        if file.name not in known:
            yield f"`{file.name}` is not in the manifest, so nothing vouches for it; remove it"


def _signatures(artifact: Artifact) -> Iterator[str]:
    for name, info in artifact.manifest.graphs.items():
        inputs, outputs = described(artifact.graphs[name], artifact.manifest.session)
        for what, told, found in (("takes", info.inputs, inputs), ("gives", info.outputs, outputs)):
            difference = differences(told, found)
            if difference:
                yield f"the manifest says that `{info.file}` {what} {difference} is what it {what}; export it again"


def _labels(artifact: Artifact) -> Iterator[str]:
    manifest = artifact.manifest
    if LABELS_FILE in manifest.files:
        text = (artifact.folder / LABELS_FILE).read_text(encoding="utf-8")
        if text != labels_text(manifest.labels):
            yield f"{LABELS_FILE} and the manifest name different labels; export the model again"
    if manifest.labels and len(manifest.graphs) == 1:
        (info,) = manifest.graphs.values()
        size = info.outputs[0].shape[-1]
        if isinstance(size, int) and size != len(manifest.labels):
            yield f"there are {len(manifest.labels)} labels for {size} outputs; export the model again"


def _preprocessing(artifact: Artifact) -> Iterator[str]:
    for name, info in artifact.manifest.graphs.items():
        if not artifact.manifest.prepares(name):
            continue
        how = artifact.manifest.preprocessing_of(name)
        given = how.graph_input(made_up_samples(how)[:1])
        (taken,) = info.inputs
        sizes = zip(taken.shape[1:], given.shape[1:], strict=True)
        if given.dtype != taken.dtype or any(isinstance(size, int) and size != found for size, found in sizes):
            yield (
                f"the preprocessing gives {given.dtype} {list(given.shape)}, but `{info.file}` takes {taken.dtype} "
                f"{list(taken.shape)}; export the model again"
            )


def _trial(artifact: Artifact) -> Iterator[str]:
    for name, info in artifact.manifest.graphs.items():
        problem = _run(artifact, name, info)
        if problem:
            yield f"`{info.file}` {problem}; export the model again"


def _run(artifact: Artifact, name: str, info: GraphInfo) -> str:
    path, session = artifact.graphs[name], artifact.manifest.session
    first = info.inputs[0].shape[:1]
    rows = first[0] if first and isinstance(first[0], int) else _ROWS
    dims = {size: _LENGTH for one in info.inputs for size in one.shape[1:] if isinstance(size, str)}
    made = onnx_subject(path, (rows,), dims, session).inputs["model"]
    given = {key: value[:rows] if value.ndim else value for key, value in made.items()}
    try:
        outputs = open_session(path, session, 1).run(None, given)
    except RUNTIME_ERRORS as error:
        return f"does not run on made-up inputs ({error})"
    floats = [output for output in outputs if np.issubdtype(output.dtype, np.floating)]
    return "" if all(np.isfinite(output).all() for output in floats) else "gives NaN or infinity on made-up inputs"


_CHECKS: tuple[tuple[str, Callable[[Artifact], Iterator[str]]], ...] = (
    ("the graphs take and give what the manifest says", _signatures),
    ("there is a label for every output", _labels),
    ("the preprocessing gives what its graph takes", _preprocessing),
    ("every graph runs, and its outputs are finite", _trial),
)
