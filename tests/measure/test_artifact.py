from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from compresslab.digest import digest_file
from compresslab.errors import ArtifactError
from compresslab.measure.artifact import Artifact, Manifest, load_artifact, write_manifest
from compresslab.measure.measurement import IntegerOperators, Parity
from compresslab.measure.session import SessionOptions

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def artifact(make_artifact: Callable[..., Artifact], right: np.ndarray) -> Artifact:
    return make_artifact("exported", right)


def edit(folder: Path, **changes: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_the_manifest_survives_the_disk(tmp_path: Path, manifest: Manifest) -> None:
    full = manifest.model_copy(
        update={
            "parity": Parity(3e-6, 512),
            "integer_operators": IntegerOperators(9, 8, ("head: Gemm: no integer kernel",)),
            "session": SessionOptions(disabled_optimizers=("SkipLayerNormFusion",)),
            "provenance": {"lineage": ["baseline"], "seed": 0},
        }
    )
    write_manifest(tmp_path, full)
    (tmp_path / "described.onnx").write_bytes(b"any")
    assert load_artifact(tmp_path).manifest == full
    assert not list(tmp_path.glob(".*")), "a draft was left behind"


def test_size_and_hashes_are_those_of_the_file(artifact: Artifact) -> None:
    path = artifact.graphs["model"]
    assert artifact.bytes == path.stat().st_size
    assert artifact.sha256 == {"model": digest_file(path)}


def test_the_digest_tells_models_preprocessing_and_sessions_apart(
    make_artifact: Callable[..., Artifact], right: np.ndarray, artifact: Artifact
) -> None:
    """It keys cached outputs: equal digests must mean equal answers."""
    assert make_artifact("copy", right, provenance={"seed": 1}).digest == artifact.digest
    preprocessing = artifact.manifest.preprocessing.model_copy(update={"mean": (0.4,)})
    others = {
        make_artifact("weights", right * 2).digest,
        make_artifact("preprocessing", right, preprocessing=preprocessing).digest,
        make_artifact("session", right, session=SessionOptions(graph_optimization="basic")).digest,
    }
    assert len(others - {artifact.digest}) == 3


@pytest.mark.parametrize("place", [".", "manifest.json", "model.onnx"])
def test_an_artifact_is_found_by_its_folder_or_its_files(artifact: Artifact, place: str) -> None:
    assert load_artifact(str(artifact.folder / place)) == artifact


def test_a_run_folder_stands_for_its_selected_model(artifact: Artifact) -> None:
    run = artifact.folder.parent / "run"
    run.mkdir()
    artifact.folder.rename(run / "selected")
    assert load_artifact(run).folder == run / "selected"


def test_a_changed_file_is_refused(artifact: Artifact) -> None:
    path = artifact.graphs["model"]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(
        ArtifactError, match=r"model\.onnx: this is not the file that was exported: its SHA-256 differs"
    ):
        load_artifact(artifact.folder)
    assert load_artifact(artifact.folder, verify=False).manifest == artifact.manifest


def test_a_missing_graph_is_refused(artifact: Artifact) -> None:
    artifact.graphs["model"].unlink()
    with pytest.raises(ArtifactError, match=r"model\.onnx: the manifest names this file, but it is missing"):
        load_artifact(artifact.folder)


def test_a_missing_place_and_a_folder_without_manifest_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no such file or folder; give a run folder"):
        load_artifact(tmp_path / "nowhere")
    with pytest.raises(ArtifactError, match=r"there is no manifest\.json here, nor in selected/"):
        load_artifact(tmp_path)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff\xfe", b'{"format_version": 1}'])
def test_a_broken_manifest_is_refused(artifact: Artifact, text: bytes) -> None:
    (artifact.folder / "manifest.json").write_bytes(text)
    with pytest.raises(
        ArtifactError, match=r"manifest\.json: not a manifest that this version reads.*export the model"
    ):
        load_artifact(artifact.folder)


def test_a_newer_manifest_is_refused(artifact: Artifact) -> None:
    edit(artifact.folder, format_version=2)
    with pytest.raises(ArtifactError, match=r"\(format_version 1\): format_version: Input should be 1"):
        load_artifact(artifact.folder)


@pytest.mark.parametrize("file", ["../model.onnx", "/etc/passwd", "a/b.onnx", "..", "a\\b.onnx", ""])
def test_a_graph_outside_the_folder_is_refused(artifact: Artifact, file: str) -> None:
    """A bundle from elsewhere must not make us open other files."""
    graph = {**json.loads((artifact.folder / "manifest.json").read_text())["graphs"]["model"], "file": file}
    edit(artifact.folder, graphs={"model": graph})
    with pytest.raises(ArtifactError, match=r"graphs\.model\.file: String should match pattern"):
        load_artifact(artifact.folder)
