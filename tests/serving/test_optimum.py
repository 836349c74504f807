"""The Optimum layout: its own classes load the folder, and answer what the bundle answers for the same picture."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from benchmarks.servers.bundles import feature_bundle
from compresslab.bundle.sealing import seal
from compresslab.bundle.verifying import verify
from compresslab.digest import digest_file
from compresslab.errors import BadInput, ParityError
from compresslab.measure.artifact import Artifact, GraphInfo, Manifest, TensorInfo, load_artifact
from compresslab.measure.evaluate import predict
from compresslab.measure.preprocessing import ImagePreprocessing
from compresslab.serving import export_bundle, renaming
from tests.torchvision_operators import define

LABELS = ("oak", "ash", "elm", "yew")


def bundle(folder: Path, **changed: object) -> Artifact:
    """RGB, 8 x 12 pixels, every one with a weight of its own; `pixel_values` is the name of a value inside."""
    folder.mkdir(parents=True)
    weights = np.random.default_rng(0).standard_normal((3 * 8 * 12, len(LABELS))).astype(np.float32) / 17
    nodes = [
        helper.make_node("Flatten", ["x"], ["pixel_values"]),
        helper.make_node("MatMul", ["pixel_values", "w"], ["y"]),
    ]
    shapes = {"x": ("batch", 3, 8, 12), "y": ("batch", len(LABELS))}
    values = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()}
    graph = helper.make_graph(nodes, "net", [values["x"]], [values["y"]], [numpy_helper.from_array(weights, "w")])
    path = folder / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    info = GraphInfo(
        file=path.name,
        sha256=digest_file(path),
        bytes=path.stat().st_size,
        opset=18,
        inputs=(TensorInfo(name="x", dtype="float32", shape=shapes["x"]),),
        outputs=(TensorInfo(name="y", dtype="float32", shape=shapes["y"]),),
    )
    plain = {"height": 8, "width": 12, "channels": 3, "mean": (0.4, 0.5, 0.6), "std": (0.2, 0.25, 0.3), **changed}
    how = ImagePreprocessing(**plain)
    manifest = Manifest(graphs={"m": info}, preprocessing=how, labels=LABELS, params=1, macs=1, provenance={})
    return seal(folder, manifest, "# trees\n")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A photograph's sizes: larger than the input, of another ratio, and smooth enough to be resized."""
    y, x = np.mgrid[:60, :90]
    pixels = np.stack([128 + 100 * np.sin(x / 9), 128 + 90 * np.cos(y / 7), (x + y) * 1.5], axis=-1)
    Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "image.png")
    return tmp_path / "image.png"


@pytest.fixture(scope="module")
def torchvision() -> None:
    """Optimum imports it through transformers and timm."""
    define()


@pytest.mark.usefixtures("torchvision")
@pytest.mark.parametrize(
    "how", [{}, {"resize": "bicubic"}, {"resize": "nearest"}, {"crop": 0.5}], ids=str
)  # fmt: skip
def test_optimum_and_transformers_give_the_bundles_answer(how: dict[str, object], picture: Path, tmp_path: Path):
    """From the file on: a mean, a filter or a colour in the wrong place shows in the scores."""
    from optimum.onnxruntime import ORTModelForImageClassification
    from transformers import AutoImageProcessor

    artifact = bundle(tmp_path / "bundle", **how)
    exported = export_bundle(artifact, tmp_path / "out", "optimum")
    assert exported.notes == ()
    model = ORTModelForImageClassification.from_pretrained(tmp_path / "out")
    processor = AutoImageProcessor.from_pretrained(tmp_path / "out", use_fast=False)
    fed = processor(Image.open(picture), return_tensors="np")
    pixels = artifact.manifest.preprocessing.open(picture)[np.newaxis]
    # A level of a pixel is 1 / 255 / 0.2 = 0.02 of the input.
    np.testing.assert_allclose(fed["pixel_values"], artifact.manifest.preprocessing.normalize(pixels), atol=0.021)
    scores = np.asarray(model(**fed).logits)
    np.testing.assert_allclose(scores, predict(artifact, pixels), atol=0.03)
    exact = model(pixel_values=artifact.manifest.preprocessing.normalize(pixels)).logits
    np.testing.assert_allclose(np.asarray(exact), predict(artifact, pixels), rtol=1e-5, atol=1e-5)
    assert [model.config.id2label[index] for index in range(4)] == list(LABELS)
    assert model.config.label2id["elm"] == 2
    # It is a bundle all the same, and answers as one.
    verify(tmp_path / "out")
    loaded = load_artifact(tmp_path / "out")
    np.testing.assert_array_equal(predict(loaded, pixels), predict(artifact, pixels))
    assert set(loaded.manifest.files) == {"README.md", "labels.txt", "config.json", "preprocessor_config.json"}


def test_what_no_processor_can_do_is_told(image: Artifact, tmp_path: Path) -> None:
    grey = export_bundle(image, tmp_path / "grey", "optimum")
    assert "no image processor of transformers' takes grey images" in grey.notes[0]
    assert not (tmp_path / "grey" / "preprocessor_config.json").exists()
    odd = export_bundle(bundle(tmp_path / "bundle", crop=0.9), tmp_path / "odd", "optimum")
    assert "shifted by up to half a pixel" in odd.notes[0]
    assert odd.notes[0].partition(";")[0] in (tmp_path / "odd" / "README.md").read_text(encoding="utf-8")
    plain = json.loads((tmp_path / "odd" / "preprocessor_config.json").read_text(encoding="utf-8"))
    assert plain["size"] == {"height": 8, "width": 14}
    assert plain["crop_size"] == {"height": 8, "width": 12}


@pytest.mark.usefixtures("torchvision")
def test_grey_images_are_answered_from_arrays(image: Artifact, tmp_path: Path) -> None:
    from optimum.onnxruntime import ORTModelForImageClassification

    export_bundle(image, tmp_path / "out", "optimum")
    pixels = np.random.default_rng(1).integers(0, 256, (3, 28, 28, 1), np.uint8)
    model = ORTModelForImageClassification.from_pretrained(tmp_path / "out")
    given = model(pixel_values=image.manifest.preprocessing.normalize(pixels)).logits
    np.testing.assert_allclose(np.asarray(given), predict(image, pixels), rtol=1e-4, atol=1e-4)


def test_what_optimum_has_no_class_for_is_refused(pair: Artifact, image: Artifact, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="run one graph, but it has image, text"):
        export_bundle(pair, tmp_path / "out", "optimum")
    with pytest.raises(BadInput, match="is for models of images, but this one takes features"):
        export_bundle(feature_bundle(tmp_path / "features"), tmp_path / "out", "optimum")
    with pytest.raises(BadInput, match="`--fold-preprocessing` is for servers"):
        export_bundle(image, tmp_path / "out", "optimum", fold="uint8-nhwc")
    export_bundle(image, tmp_path / "folded", "onnx", fold="uint8-nhwc")
    with pytest.raises(BadInput, match=r"its graph takes raw pixels \(uint8-nhwc\)"):
        export_bundle(load_artifact(tmp_path / "folded"), tmp_path / "out", "optimum")
    assert not (tmp_path / "out").exists()


def test_nothing_of_the_users_is_replaced(image: Artifact, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(BadInput, match="this is not an earlier bundle, so it is not replaced"):
        export_bundle(image, tmp_path / "out", "optimum")
    assert (tmp_path / "out" / "config.json").read_text(encoding="utf-8") == "{}"


def test_a_graph_that_answers_otherwise_is_not_handed_over(
    image: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = renaming._outputs

    def off_by_one(artifact: Artifact, samples: np.ndarray) -> list[np.ndarray]:
        return [one + (artifact is not image) for one in given(artifact, samples)]

    monkeypatch.setattr(renaming, "_outputs", off_by_one)
    with pytest.raises(ParityError, match="with other names of its tensors the graph gives other numbers"):
        export_bundle(image, tmp_path / "out", "optimum")
    assert not (tmp_path / "out").exists()


def test_names_are_changed_inside_branches_too(tmp_path: Path) -> None:
    """A branch reads values of the graph around it by their names."""
    branch = helper.make_graph(
        [helper.make_node("Add", ["x", "pixel_values"], ["sum"])],
        "branch", [], [helper.make_tensor_value_info("sum", TensorProto.FLOAT, None)],
    )  # fmt: skip
    graph = helper.make_graph(
        [
            helper.make_node("Abs", ["x"], ["pixel_values"]),
            helper.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch),
        ],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(np.array(True), "yes")],
    )
    renaming._rename(graph, renaming._complete({"x": "pixel_values", "y": "logits"}, graph))
    assert graph.input[0].name == "pixel_values"
    for attribute in graph.node[1].attribute:
        assert list(attribute.g.node[0].input) == ["pixel_values", "pixel_values_0"]
