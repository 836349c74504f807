"""What lies where after an export, and that nothing of the user's is ever replaced."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import get_args

import pytest

from benchmarks.servers.bundles import feature_bundle
from compresslab.bundle.verifying import verify
from compresslab.errors import BadInput
from compresslab.measure.artifact import Artifact, load_artifact
from compresslab.measure.session import SessionOptions
from compresslab.serving import export_bundle
from compresslab.serving.exporting import Format
from compresslab.serving.mlserver_layout import MODEL_SETTINGS
from compresslab.serving.triton_layout import quoted


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


BUNDLE = {"model.onnx", "manifest.json", "labels.txt", "README.md"}


def test_a_triton_repository(image: Artifact, tmp_path: Path) -> None:
    exported = export_bundle(image, tmp_path / "models", "triton", cores=2)
    assert exported.models == {"fashion-like": tmp_path / "models" / "fashion-like"}
    version = {f"fashion-like/1/{name}" for name in BUNDLE}
    assert files(tmp_path / "models") == version | {"fashion-like/config.pbtxt"}
    verify(tmp_path / "models" / "fashion-like" / "1")


def test_the_python_backend_has_its_model_among_the_hashes(image: Artifact, tmp_path: Path) -> None:
    export_bundle(image, tmp_path, "triton", backend="python", cores=2)
    version = tmp_path / "fashion-like" / "1"
    assert "model.py" in load_artifact(version).manifest.files
    assert 'backend: "python"' in (tmp_path / "fashion-like" / "config.pbtxt").read_text(encoding="utf-8")


def test_the_configuration_of_triton(image: Artifact, tmp_path: Path) -> None:
    """Gathering, instances and warm-up are those of the plan, which the bundle's latencies speak for."""
    export_bundle(image, tmp_path, "triton", cores=2)
    assert (tmp_path / "fashion-like" / "config.pbtxt").read_text(encoding="utf-8") == (
        'name: "fashion-like"\n'
        'backend: "onnxruntime"\n'
        "max_batch_size: 64\n"
        'input [ { name: "pixels" data_type: TYPE_FP32 dims: [ 1, 28, 28 ] } ]\n'
        'output [ { name: "logits" data_type: TYPE_FP32 dims: [ 10 ] label_filename: "1/labels.txt" } ]\n'
        "instance_group [ { count: 2 kind: KIND_CPU } ]\n"
        "dynamic_batching { preferred_batch_size: [ 8 ] max_queue_delay_microseconds: 200 }\n"
        'parameters { key: "intra_op_thread_count" value: { string_value: "1" } }\n'
        'parameters { key: "inter_op_thread_count" value: { string_value: "1" } }\n'
        'model_warmup [ { name: "batch 1" batch_size: 1 count: 100 inputs { key: "pixels" value '
        "{ data_type: TYPE_FP32 dims: [ 1, 28, 28 ] zero_data: true } } } ]\n"
        'model_warmup [ { name: "batch 8" batch_size: 8 count: 100 inputs { key: "pixels" value '
        "{ data_type: TYPE_FP32 dims: [ 1, 28, 28 ] zero_data: true } } } ]\n"
    )


def test_two_graphs_are_two_models(pair: Artifact, tmp_path: Path) -> None:
    for to in ("triton", "mlserver"):
        exported = export_bundle(pair, tmp_path / to, to, name="clip")
        assert set(exported.models) == {"clip-image", "clip-text"}
    text = (tmp_path / "triton" / "clip-text" / "config.pbtxt").read_text(encoding="utf-8")
    assert 'input [ { name: "tokens" data_type: TYPE_INT64 dims: [ 8 ] } ]' in text
    assert "dynamic_batching" not in text, "nothing was measured of it"
    assert load_artifact(tmp_path / "mlserver" / "clip-text").sha256 == {"text": pair.sha256["text"]}
    for folder in ("triton/clip-image/1", "triton/clip-text/1", "mlserver/clip-image", "mlserver/clip-text"):
        verify(tmp_path / folder, frozenset({MODEL_SETTINGS}))  # may be edited, so it is no part of the bundle


def test_a_folder_for_mlserver(image: Artifact, tmp_path: Path) -> None:
    export_bundle(image, tmp_path, "mlserver", cores=2, max_batch=16)
    model = {f"fashion-like/{name}" for name in BUNDLE | {"model-settings.json"}}
    assert files(tmp_path) == model | {"settings.json"}
    settings = json.loads((tmp_path / "fashion-like" / "model-settings.json").read_text(encoding="utf-8"))
    assert settings["inputs"] == [{"name": "pixels", "datatype": "FP32", "shape": [-1, 1, 28, 28]}]
    assert settings["outputs"] == [{"name": "logits", "datatype": "FP32", "shape": [-1, 10]}]
    assert settings["parameters"]["extra"] == {
        "threads": 1, "instances": 2, "max_batch": 16, "warm_up": [[1, 100], [8, 100]],
    }  # fmt: skip


def test_plain_onnx_is_the_bundle(image: Artifact, tmp_path: Path) -> None:
    export_bundle(image, tmp_path / "plain", "onnx")
    for name in BUNDLE:
        assert (tmp_path / "plain" / name).read_bytes() == (image.folder / name).read_bytes()


@pytest.mark.parametrize("to", [to for to in get_args(Format) if to != "optimum"])  # which refuses it
def test_a_folded_graph_in_every_format_for_servers(image: Artifact, to: Format, tmp_path: Path) -> None:
    exported = export_bundle(image, tmp_path / "out", to, fold="uint8-nhwc")
    assert exported.folded_difference is not None
    folder = next(path.parent for path in (tmp_path / "out").rglob("manifest.json"))
    verified = verify(folder, frozenset({MODEL_SETTINGS}))
    assert verified.artifact.manifest.preprocessing.folded == "uint8-nhwc"
    assert "the graph normalizes by itself" in (folder / "README.md").read_text(encoding="utf-8")


def test_a_model_of_features(tmp_path: Path) -> None:
    prices = feature_bundle(tmp_path / "prices")
    export_bundle(prices, tmp_path / "triton", "triton")
    config = (tmp_path / "triton" / "prices" / "config.pbtxt").read_text(encoding="utf-8")
    assert 'input [ { name: "features" data_type: TYPE_FP32 dims: [ 5 ] } ]' in config
    verify(tmp_path / "triton" / "prices" / "1")
    card = (tmp_path / "triton" / "prices" / "1" / "README.md").read_text(encoding="utf-8")
    assert "The output is price, in the units of the training data." in card
    with pytest.raises(BadInput, match="is for models of images, but this one takes features"):
        export_bundle(prices, tmp_path / "folded", "onnx", fold="uint8-nhwc")


def test_a_repository_may_hold_other_models(image: Artifact, pair: Artifact, tmp_path: Path) -> None:
    export_bundle(pair, tmp_path, "triton")
    export_bundle(image, tmp_path, "triton")
    (tmp_path / "fashion-like" / "1" / "left_over").write_text("", encoding="utf-8")
    export_bundle(image, tmp_path, "triton")
    assert {path.name for path in tmp_path.iterdir()} == {"pair-image", "pair-text", "fashion-like"}
    assert not (tmp_path / "fashion-like" / "1" / "left_over").exists()


@pytest.mark.parametrize("to", ["triton", "mlserver"])
def test_a_folder_of_the_users_is_never_replaced(image: Artifact, to: Format, tmp_path: Path) -> None:
    (tmp_path / "fashion-like").mkdir()
    (tmp_path / "fashion-like" / "thesis.tex").write_text("years of work", encoding="utf-8")
    with pytest.raises(BadInput, match="so it is not replaced"):
        export_bundle(image, tmp_path, to)
    assert files(tmp_path) == {"fashion-like/thesis.tex"}


def test_settings_of_the_server_are_the_users_once_they_are_there(image: Artifact, tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text("{}", encoding="utf-8")
    export_bundle(image, tmp_path, "mlserver")
    assert (tmp_path / "settings.json").read_text(encoding="utf-8") == "{}"


@pytest.mark.parametrize("name", ["../out", "a b", "", ".hidden", "a/b", "-x"])
def test_a_name_that_will_not_do(own_image: Artifact, name: str, tmp_path: Path) -> None:
    """As a folder, in a URL, and in no shell trouble; an empty one is none."""
    folder = tmp_path / "out"
    if name == "":
        assert export_bundle(own_image, folder, "triton", name=name).models
        return
    with pytest.raises(BadInput, match="give another one with --name"):
        export_bundle(own_image, folder, "triton", name=name)
    assert not folder.exists()


def test_a_bundle_of_no_run_is_named_by_its_folder(own_image: Artifact, tmp_path: Path) -> None:
    manifest = own_image.manifest.model_copy(update={"provenance": {}})
    nameless = Artifact(own_image.folder, own_image.graphs, manifest)
    assert set(export_bundle(nameless, tmp_path / "out", "triton").models) == {"own"}


def test_options_that_a_backend_does_not_have_are_refused(own_image: Artifact, tmp_path: Path) -> None:
    """Served otherwise than it was measured, the figures of the bundle would not hold."""
    for session, said in (
        (SessionOptions(disabled_optimizers=("MatMulAddFusion",)), "cannot leave out single optimizers"),
        (SessionOptions(provider="CUDAExecutionProvider"), "only the CPU is set up"),
    ):
        manifest = own_image.manifest.model_copy(update={"session": session})
        other = Artifact(own_image.folder, own_image.graphs, manifest)
        with pytest.raises(BadInput, match=f"{said}.*--backend python"):
            export_bundle(other, tmp_path, "triton")
        assert not files(tmp_path / "fashion-like")


@pytest.mark.parametrize(("level", "number"), [("extended", "1"), ("basic", "-1"), ("disabled", "2")])
def test_the_level_of_optimization_goes_with_it(own_image: Artifact, level: str, number: str, tmp_path: Path) -> None:
    manifest = own_image.manifest.model_copy(update={"session": SessionOptions(graph_optimization=level)})
    export_bundle(Artifact(own_image.folder, own_image.graphs, manifest), tmp_path, "triton")
    config = (tmp_path / "fashion-like" / "config.pbtxt").read_text(encoding="utf-8")
    assert f"optimization {{ graph {{ level: {number} }} }}" in config


def test_a_crash_leaves_the_earlier_export(own_image: Artifact, tmp_path: Path) -> None:
    export_bundle(own_image, tmp_path, "triton")
    before = files(tmp_path)
    own_image.graphs["model"].write_bytes(b"changed after it was loaded")
    with pytest.raises(BadInput, match="this is not the file that was exported"):
        export_bundle(own_image, tmp_path, "triton")
    assert files(tmp_path) == before
    verify(tmp_path / "fashion-like" / "1")


def test_an_export_can_be_exported_again(image: Artifact, tmp_path: Path) -> None:
    export_bundle(image, tmp_path / "first", "triton")
    shutil.move(tmp_path / "first" / "fashion-like" / "1", tmp_path / "moved")
    again = export_bundle(load_artifact(tmp_path / "moved"), tmp_path / "second", "mlserver")
    assert set(again.models) == {"fashion-like"}


def test_text_of_the_configuration_is_escaped() -> None:
    """A tensor may be called anything in an ONNX file."""
    assert quoted('a"b\\c\n') == '"a\\042b\\134c\\012"'
    assert quoted("é") == '"\\303\\251"'
