"""Folded, a graph takes raw pixels and answers the same."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from benchmarks.servers.bundles import image_bundle
from compresslab.digest import digest_file
from compresslab.errors import BadInput, ParityError
from compresslab.measure.artifact import Artifact, load_artifact, write_manifest
from compresslab.measure.evaluate import predict
from compresslab.measure.preprocessing import PixelInput
from compresslab.serving import fold as module
from compresslab.serving.fold import fold


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (9, 28, 28, 1), np.uint8)


@pytest.mark.parametrize("taken", get_args(PixelInput))
def test_the_answers_are_the_same(image: Artifact, taken: PixelInput, pixels: np.ndarray, tmp_path: Path) -> None:
    folded, difference = fold(image, taken, tmp_path)
    assert difference <= 1e-5
    np.testing.assert_allclose(predict(folded, pixels), predict(image, pixels), rtol=1e-5, atol=1e-5)
    dtype, layout = taken.split("-")
    (info,) = folded.manifest.graphs.values()
    sizes = (28, 28, 1) if layout == "nhwc" else (1, 28, 28)
    assert (info.inputs[0].dtype, info.inputs[0].shape) == (dtype, ("batch", *sizes))
    assert info.outputs == next(iter(image.manifest.graphs.values())).outputs


def test_colours_have_a_mean_each(tmp_path: Path) -> None:
    """A mean at the wrong channel would go unseen on grey images."""
    artifact = colour(tmp_path / "colour")
    folded, _ = fold(artifact, "uint8-nhwc", tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (4, 4, 4, 3), np.uint8)
    np.testing.assert_allclose(predict(folded, images), predict(artifact, images), rtol=1e-5, atol=1e-5)
    images[..., [0, 2]] = images[..., [2, 0]]
    assert np.abs(predict(folded, images) - predict(artifact, images[..., ::-1])).max() > 0.01


def test_the_manifest_says_so_and_can_be_loaded(image: Artifact, tmp_path: Path) -> None:
    folded, _ = fold(image, "uint8-nhwc", tmp_path)
    write_manifest(tmp_path, folded.manifest)
    loaded = load_artifact(tmp_path).manifest
    assert loaded.preprocessing.folded == "uint8-nhwc"
    assert loaded.provenance["folded"] == {"pixels": "uint8-nhwc", "sha256": image.sha256["model"]}
    assert loaded.parity is None, "what was compared with torch is another file"


def test_the_same_input_gives_the_same_bytes(image: Artifact, tmp_path: Path) -> None:
    hashes = set()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        hashes.add(digest_file(fold(image, "uint8-nchw", tmp_path / name)[0].graphs["model"]))
    assert len(hashes) == 1


def test_names_that_are_taken_are_left_alone(image: Artifact, tmp_path: Path) -> None:
    """The graph's input is called `pixels` already."""
    folded, _ = fold(image, "uint8-nhwc", tmp_path)
    assert folded.manifest.graphs["model"].inputs[0].name == "raw_pixels"


def test_what_cannot_be_folded_is_told(image: Artifact, pair: Artifact, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="needs one graph, but it has image, text"):
        fold(pair, "uint8-nhwc", tmp_path)
    folded, _ = fold(image, "uint8-nhwc", tmp_path)
    with pytest.raises(BadInput, match=r"normalizes by itself already \(uint8-nhwc\)"):
        fold(folded, "uint8-nhwc", tmp_path / "again")
    manifest = image.manifest.model_copy(
        update={"preprocessing": image.manifest.preprocessing.model_copy(update={"height": 27})}
    )
    with pytest.raises(BadInput, match=r"does not take float32 \[n, 1, 27, 28\]"):
        fold(Artifact(image.folder, image.graphs, manifest), "uint8-nhwc", tmp_path)


def test_answers_that_differ_stop_it(image: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TOLERANCE", -1.0)
    with pytest.raises(ParityError, match=r"`logits` differs by up to 0 .*without --fold-preprocessing"):
        fold(image, "uint8-nhwc", tmp_path)


def colour(folder: Path) -> Artifact:
    """[n, 3, 4, 4] flattened: every value of the input can be seen in the output."""
    artifact = image_bundle(folder)
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["x"], ["y"])],
        "flat",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 48])],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), folder / "model.onnx"
    )
    info = artifact.manifest.graphs["model"]
    tensors = {
        "inputs": (info.inputs[0].model_copy(update={"name": "x", "shape": ("batch", 3, 4, 4)}),),
        "outputs": (info.outputs[0].model_copy(update={"name": "y", "shape": ("batch", 48)}),),
    }
    told = {"sha256": digest_file(folder / "model.onnx"), "bytes": (folder / "model.onnx").stat().st_size, **tensors}
    preprocessing = artifact.manifest.preprocessing.model_copy(
        update={"height": 4, "width": 4, "channels": 3, "mean": (0.1, 0.5, 0.9), "std": (0.2, 0.25, 0.3)}
    )
    changes = {"graphs": {"model": info.model_copy(update=told)}, "preprocessing": preprocessing, "labels": ()}
    write_manifest(folder, artifact.manifest.model_copy(update=changes))
    return load_artifact(folder)
