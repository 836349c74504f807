"""An exported model: a folder with one ONNX file a graph and a manifest that says what they are."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import Field, ValidationError

from compresslab.digest import digest_file, digest_of
from compresslab.errors import ArtifactError
from compresslab.measure.measurement import Fidelity, IntegerOperators, Latency, Parity
from compresslab.measure.preprocessing import Preprocessing
from compresslab.measure.session import SessionOptions
from compresslab.settings import FileName, Settings, Sha256

if TYPE_CHECKING:
    from collections.abc import Mapping

MANIFEST = "manifest.json"
FORMAT_VERSION: Final = 1


class TensorInfo(Settings):
    """One input or output of a graph; a dimension that is not fixed has a name."""

    name: str
    dtype: str
    """As numpy names it: `float32`."""
    shape: tuple[int | str, ...]


class GraphInfo(Settings):
    """One ONNX file of an artifact."""

    file: FileName
    sha256: Sha256
    bytes: Annotated[int, Field(ge=1)]
    opset: int
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]


class TowerInfo(Settings):
    """What is known of one graph of several."""

    preprocessing: Preprocessing
    params: int
    macs: int
    """Multiply-adds for one example."""
    parity: Parity | None = None
    fidelity: Fidelity | None = None
    integer_operators: IntegerOperators = IntegerOperators(0, 0)


class Manifest(Settings):
    """What an artifact says of itself; everything a server or a gate needs beside the ONNX files."""

    format_version: Literal[1] = FORMAT_VERSION
    graphs: Annotated[dict[str, GraphInfo], Field(min_length=1)]
    preprocessing: Preprocessing
    """Of the only graph; of several, that of the first."""
    towers: dict[str, TowerInfo] = Field(default_factory=dict)
    """By graph, where there are several that embed in one space; figures beside are then of all together."""
    labels: tuple[str, ...]
    """Names of the outputs, in order; empty where they are no classes."""
    target: str | None = None
    """What the one number of the output is, in the units of the training data; None where it is none."""
    embedding: int | None = None
    """The width of the output, where it is an embedding: its directions are compared by cosine."""
    session: SessionOptions = SessionOptions()
    params: int
    macs: int
    """Multiply-adds for one example."""
    parity: Parity | None = None
    """None where there is no torch module to compare with."""
    fidelity: Fidelity | None = None
    """None where there is no fake-quantized network to compare with."""
    integer_operators: IntegerOperators = IntegerOperators(0, 0)
    files: dict[FileName, Sha256] = Field(default_factory=dict)
    """The SHA-256 of every other file that belongs to it, by name: a bundle's labels and model card."""
    latency: tuple[Latency, ...] = ()
    """A bundle's, as its run measured it on the provenance's machine: what a server is set up from."""
    provenance: Annotated[dict[str, Any], Field(default_factory=dict)]
    """Where it comes from: lineage, versions, seeds; plain data."""

    def preprocessing_of(self, graph: str) -> Preprocessing:
        """How samples become inputs of this graph."""
        return self.towers[graph].preprocessing if graph in self.towers else self.preprocessing

    def only(self, graph: str) -> Manifest:
        """What it says of one graph, as if there were no other."""
        if len(self.graphs) == 1:
            return self
        found: dict[str, Any] = {"graphs": {graph: self.graphs[graph]}, "towers": {}}
        if graph in self.towers:
            own = self.towers[graph]
            found |= {name: getattr(own, name) for name in TowerInfo.model_fields}
        return self.model_copy(update=found)

    def prepares(self, graph: str) -> bool:
        """Whether the preprocessing is for this graph: its one input has as many axes as what that gives.

        Of two towers, one may take what the preprocessing says nothing of.
        """
        inputs = self.graphs[graph].inputs
        kind = self.preprocessing_of(graph).kind
        axes = 4 if kind == "image" else 2
        ids = inputs[0].dtype.startswith("int") == (kind == "text")
        return len(inputs) == 1 and len(inputs[0].shape) == axes and ids


@dataclass(frozen=True)
class Artifact:
    """An exported model on disk."""

    folder: Path
    graphs: Mapping[str, Path]
    manifest: Manifest

    def only(self, graph: str) -> Artifact:
        """One of its graphs, as if there were no other."""
        return Artifact(self.folder, {graph: self.graphs[graph]}, self.manifest.only(graph))

    @property
    def bytes(self) -> int:
        """Size of all graphs together."""
        return sum(info.bytes for info in self.manifest.graphs.values())

    @property
    def sha256(self) -> Mapping[str, str]:
        """The hash of each graph's file, by the graph's name."""
        return {name: info.sha256 for name, info in self.manifest.graphs.items()}

    @property
    def digest(self) -> str:
        """Identifies all that decides what is computed and how: graphs, preprocessing, session."""
        manifest = self.manifest
        parts: list[Any] = [
            dict(self.sha256),
            manifest.preprocessing.model_dump(mode="json"),
            manifest.session.model_dump(mode="json"),
        ]
        if manifest.towers:
            parts.append({name: one.preprocessing.model_dump(mode="json") for name, one in manifest.towers.items()})
        return digest_of(parts)


def copy_tokenizer(artifact: Artifact, folder: Path) -> None:
    """Puts the tokenizers of an artifact that reads texts into a folder; nothing of any other."""
    for graph in artifact.graphs:
        how = artifact.manifest.preprocessing_of(graph)
        if how.kind == "text":
            shutil.copyfile(artifact.folder / how.tokenizer, folder / how.tokenizer)


def write_manifest(folder: Path, manifest: Manifest) -> Path:
    """Writes `manifest.json` into `folder`, whole or not at all, and returns its path."""
    path = folder / MANIFEST
    draft = folder / f".{MANIFEST}.{os.getpid()}"
    draft.write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    draft.replace(path)
    return path


def load_artifact(path: Path | str, verify: bool = True) -> Artifact:
    """Reads an artifact.

    Args:
        path: An artifact's folder (a stage's folder, a bundle), its manifest, an ONNX file beside a manifest, or a run
            folder, which stands for its `selected/`.
        verify: Whether to compare the files with the manifest's hashes.

    Raises:
        ArtifactError: There is no manifest, it is broken or newer than this version, or a file is missing or changed.
    """
    folder = _folder_of(Path(path))
    manifest = read_manifest(folder / MANIFEST)
    if manifest.preprocessing.kind == "text":
        manifest = manifest.model_copy(update={"preprocessing": manifest.preprocessing.in_folder(folder)})
    towers = {
        name: one.model_copy(update={"preprocessing": one.preprocessing.in_folder(folder)})
        for name, one in manifest.towers.items() if one.preprocessing.kind == "text"
    }  # fmt: skip
    if towers:
        manifest = manifest.model_copy(update={"towers": {**manifest.towers, **towers}})
    graphs = {name: folder / info.file for name, info in manifest.graphs.items()}
    artifact = Artifact(folder, graphs, manifest)
    broken = damage(artifact, verify)
    if broken:
        raise ArtifactError("\n".join(broken))
    return artifact


def damage(artifact: Artifact, hashes: bool = True) -> tuple[str, ...]:
    """What is wrong with the files of an artifact, one sentence a file: missing, or (with `hashes`) changed."""
    graphs = artifact.manifest.graphs.values()
    expected = {info.file: info.sha256 for info in graphs} | artifact.manifest.files
    found = []
    for name, sha256 in expected.items():
        file = artifact.folder / name
        if not file.is_file():
            found.append(f"{file}: the manifest names this file, but it is missing; export the model again")
        elif hashes and digest_file(file) != sha256:
            found.append(
                f"{file}: this is not the file that was exported: its SHA-256 differs from the manifest's "
                f"({sha256[:12]}...); copy the artifact again, or export it again"
            )
    return tuple(found)


def _folder_of(path: Path) -> Path:
    if path.is_file():
        path = path.parent
    elif not path.is_dir():
        raise ArtifactError(f"{path}: no such file or folder; give a run folder or an exported model's folder")
    for folder in (path, path / "selected"):
        if (folder / MANIFEST).is_file():
            return folder
    raise ArtifactError(
        f"{path}: there is no {MANIFEST} here, nor in selected/; give a run folder or an exported model's folder"
    )


def read_manifest(path: Path) -> Manifest:
    """Reads a manifest.json alone, whatever else lies beside it.

    Raises:
        ArtifactError: It is broken, or newer than this version.
    """
    text = path.read_bytes()
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        found = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc']) or 'the file'}: {problem['msg']}"
            for problem in error.errors()
        )
        raise ArtifactError(
            f"{path}: not a manifest that this version reads (format_version {FORMAT_VERSION}): {found}; "
            "export the model again"
        ) from error
