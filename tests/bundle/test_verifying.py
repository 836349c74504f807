"""verify finds what is wrong with a bundle, also where every hash is right: the manifest itself may lie."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from benchmarks.servers.bundles import feature_bundle, two_graph_bundle
from compresslab.bundle import write_bundle
from compresslab.bundle.verifying import verify
from compresslab.errors import ArtifactError
from compresslab.report import Report


@pytest.fixture
def bundle(make_report: Callable[..., Report], tmp_path: Path) -> Path:
    report = make_report()
    return write_bundle(report.point("b2"), report, tmp_path / "selected")


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "manifest.json"
    plain = json.loads(path.read_text(encoding="utf-8"))
    change(plain)
    path.write_text(json.dumps(plain), encoding="utf-8")


def test_a_bundle_is_fine_and_its_digest_is_that_of_the_manifest(bundle: Path) -> None:
    verified = verify(bundle)
    assert verified.manifest_sha256 == sha256((bundle / "manifest.json").read_bytes()).hexdigest()
    assert len(verified.checks) == 6
    assert verified.checks[0] == "every file that the manifest lists (3) has its SHA-256"


def test_two_graphs_of_other_types_are_fine(tmp_path: Path) -> None:
    artifact = two_graph_bundle(tmp_path / "pair")
    assert verify(artifact.folder).artifact == artifact


def test_features_are_fine_and_another_width_is_told(tmp_path: Path) -> None:
    folder = feature_bundle(tmp_path / "prices").folder
    verify(folder)
    edit(folder, lambda plain: plain["preprocessing"].update(width=4, mean=[], std=[]))
    with pytest.raises(ArtifactError, match=r"the preprocessing gives float32 \[1, 4\], but `model\.onnx` takes"):
        verify(folder)


def test_a_stage_folder_has_other_files_by_right(bundle: Path) -> None:
    edit(bundle, lambda plain: plain.update(files={}))
    (bundle / "weights.safetensors").write_bytes(b"")
    assert not [said for said in verify(bundle).checks if "other file" in said], "there is one"


def test_a_file_that_nobody_vouches_for_is_told(bundle: Path) -> None:
    (bundle / "run_me.py").write_text("", encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"selected: `run_me\.py` is not in the manifest"):
        verify(bundle)


def test_what_may_be_edited_may_lie_there_and_is_told(bundle: Path) -> None:
    (bundle / "settings").write_text("", encoding="utf-8")
    checks = verify(bundle, frozenset({"settings", "others"})).checks
    assert checks[1] == "no other file lies here, but `settings`, which may be edited"
    (bundle / "settings").unlink()
    assert verify(bundle, frozenset({"settings"})).checks[1] == "no other file lies here"


def test_every_changed_file_is_told_at_once(bundle: Path) -> None:
    for name in ("model.onnx", "labels.txt"):
        (bundle / name).write_bytes(b"other")
    with pytest.raises(ArtifactError, match=r"model\.onnx: this is not.*\n.*labels\.txt: this is not"):
        verify(bundle)


@pytest.mark.parametrize(
    ("where", "key", "value", "said"),
    [
        ("inputs", "name", "pixel", r"takes `pixel` float32 .*, but `pixels` float32 .* is what it takes"),
        ("inputs", "dtype", "uint8", "takes `pixels` uint8"),
        ("outputs", "shape", ["batch", 4], r"gives `scores` float32 \['batch', 4\], but"),
    ],
)
def test_a_signature_that_is_not_the_graphs_is_told(bundle: Path, where: str, key: str, value: Any, said: str) -> None:
    edit(bundle, lambda plain: plain["graphs"]["model"][where][0].update({key: value}))
    with pytest.raises(ArtifactError, match=said):
        verify(bundle)


def test_labels_that_differ_are_told(bundle: Path) -> None:
    edit(bundle, lambda plain: plain.update(labels=["coat", "bag | tote", "ankle boot"]))
    with pytest.raises(ArtifactError, match=r"labels\.txt and the manifest name different labels"):
        verify(bundle)
    edit(bundle, lambda plain: plain.update(labels=["coat"]))
    with pytest.raises(ArtifactError, match="there are 1 labels for 3 outputs"):
        verify(bundle)


def test_preprocessing_for_another_size_is_told(bundle: Path) -> None:
    edit(bundle, lambda plain: plain["preprocessing"].update(height=7))
    with pytest.raises(ArtifactError, match=r"gives float32 \[1, 1, 7, 5\], but `model\.onnx` takes float32 .*1, 6, 5"):
        verify(bundle)


def test_a_graph_that_gives_nan_is_told(bundle: Path) -> None:
    path = bundle / "model.onnx"
    model = onnx.load(path)
    weight = numpy_helper.to_array(model.graph.initializer[0]) * np.nan
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, "weight"))
    onnx.save(model, path)
    content = path.read_bytes()
    changes = {"sha256": sha256(content).hexdigest(), "bytes": len(content)}
    edit(bundle, lambda plain: plain["graphs"]["model"].update(changes))
    with pytest.raises(ArtifactError, match=r"`model\.onnx` gives NaN or infinity"):
        verify(bundle)
