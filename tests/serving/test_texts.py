"""Texts at servers: where they become ids of tokens, what the layouts say of it, and which requests are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compresslab.bundle.verifying import verify
from compresslab.errors import BadInput, DataError
from compresslab.measure.artifact import Artifact, load_artifact
from compresslab.serving import export_bundle
from compresslab.serving.exporting import Backend
from compresslab.serving.mlserver_layout import MODEL_SETTINGS
from compresslab.serving.texts import texts_of
from tests.serving.tensors import Tensor
from tests.text_bundles import classifier, towers


def text(shape: list[int], data: Any) -> Tensor:
    return Tensor("text", "BYTES", shape, data)


@pytest.fixture(scope="module")
def tickets(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return classifier(tmp_path_factory.mktemp("bundles") / "tickets")


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return towers(tmp_path_factory.mktemp("bundles") / "colours")


def test_mlserver_takes_strings(tickets: Artifact, tmp_path: Path) -> None:
    exported = export_bundle(tickets, tmp_path, "mlserver", cores=2)
    folder = tmp_path / "tickets"
    told = json.loads((folder / MODEL_SETTINGS).read_text(encoding="utf-8"))
    assert told["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    assert told["outputs"] == [{"name": "logits", "datatype": "FP32", "shape": [-1, 3]}]
    assert "tokenizer.json" in load_artifact(folder).manifest.files
    verify(folder, frozenset({MODEL_SETTINGS}))
    (note,) = exported.notes
    assert note.startswith("tickets: the server takes strings and makes them ids of tokens itself")
    request = json.loads(note.split("`")[1])
    assert len(texts_of([Tensor(**request["inputs"][0])], 4)) == 1, "the example is a request that is taken"
    assert note.removeprefix("tickets: ") in (folder / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("backend", ["onnxruntime", "python"])
def test_triton_takes_ids_of_any_length(tickets: Artifact, backend: Backend, tmp_path: Path) -> None:
    """No backend has a tokenizer, so the client needs it: it lies beside the graph, and the card says how."""
    exported = export_bundle(tickets, tmp_path, "triton", backend=backend, cores=2)
    config = (tmp_path / "tickets" / "config.pbtxt").read_text(encoding="utf-8")
    assert 'input [ { name: "input_ids" data_type: TYPE_INT64 dims: [ -1 ] } ]' in config
    assert "max_batch_size: 64" in config
    assert "model_warmup" not in config, "how long a text is, only a request knows"
    version = tmp_path / "tickets" / "1"
    verify(version)
    card = (version / "README.md").read_text(encoding="utf-8")
    (note,) = exported.notes
    assert note.removeprefix("tickets: ") in card
    assert "the server takes ids of tokens, `input_ids` INT64 [batch, sequence], and no strings" in card
    assert "Tokenizer.from_file('tokenizer.json')" in card


def test_two_towers_are_two_models_and_the_tokenizer_goes_with_its_own(colours: Artifact, tmp_path: Path) -> None:
    for to in ("triton", "mlserver"):
        exported = export_bundle(colours, tmp_path / to, to, cores=2)
        assert set(exported.models) == {"colours-image", "colours-text"}
        (note,) = exported.notes
        assert note.startswith("colours-text: ")
        places = {name: folder / ("1" if to == "triton" else "") for name, folder in exported.models.items()}
        assert (places["colours-text"] / "tokenizer.json").is_file()
        assert not (places["colours-image"] / "tokenizer.json").exists()
        for place in places.values():
            verify(place, frozenset({MODEL_SETTINGS}))
    settings = {name: json.loads((tmp_path / "mlserver" / name / MODEL_SETTINGS).read_text(encoding="utf-8"))
                for name in ("colours-image", "colours-text")}  # fmt: skip
    assert settings["colours-text"]["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    assert settings["colours-image"]["inputs"][0]["name"] == "pixels"


def test_plain_onnx_is_the_bundle_again(tickets: Artifact, colours: Artifact, tmp_path: Path) -> None:
    for artifact in (tickets, colours):
        exported = export_bundle(artifact, tmp_path / artifact.folder.name, "onnx")
        again = verify(exported.folder).artifact
        assert again.sha256 == artifact.sha256
        assert "tokenizer.json" in again.manifest.files


def test_what_is_for_images_is_refused_for_texts(tickets: Artifact, colours: Artifact, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is for models of images, but this one takes text"):
        export_bundle(tickets, tmp_path / "out", "triton", fold="uint8-nhwc")
    with pytest.raises(BadInput, match=r"several graphs|one graph"):
        export_bundle(colours, tmp_path / "out", "triton", fold="uint8-nhwc")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("data", [["one", "zwölf"], [b"one", "zwölf".encode()], [["one"], ["zwölf"]]])
def test_strings_flat_and_nested_and_bytes_arrive_the_same(data: list[Any]) -> None:
    for shape in ([2], [2, 1]):
        assert texts_of([text(shape, data)], 4).tolist() == ["one", "zwölf"]


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ([], "there must be one input, `text` BYTES .*, but got nothing"),
        ([Tensor("input_ids", "INT64", [1, 2], [1, 2])], "but got `input_ids`"),
        ([text([1], ["a"]), text([1], ["a"])], "but got `text`, `text`"),
        ([Tensor("text", "INT64", [1], [1])], "must be BYTES, but got INT64"),
        ([text([], [])], r"must have the shape \[n\] or \[n, 1\], but got \[\]"),
        ([text([0], [])], r"but got \[0\]"),
        ([text([1, 2], ["a", "b"])], r"but got \[1, 2\]"),
        ([text([5], ["a"] * 5)], "has 5 rows; at most 4"),
        ([text([2], ["a"])], "must have a list of 2 strings, but got 1"),
        ([text([1], "a")], "but got no list"),
        ([text([1], [3])], "row 0: must be a string, but is a int"),
        ([text([1], [None])], "must be a string, but is a NoneType"),
        ([text([2], ["a", b"\xff"])], "row 1: is not UTF-8 .*invalid start byte"),
        ([text([1], ["\ud800"])], "row 0: is not UTF-8 .*surrogates not allowed"),
        ([text([2], ["a", " \n"])], "row 1: an empty text has no answer"),
    ],
)
def test_what_does_not_fit_is_refused_and_told(tensors: list[Tensor], said: str) -> None:
    with pytest.raises(DataError, match=said):
        texts_of(tensors, 4)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(data=_JSON, shape=st.lists(st.integers(-1, 3), max_size=3))
def test_whatever_comes_is_read_or_refused(data: Any, shape: list[int]) -> None:
    """Never another error: that would be the server's, not the client's."""
    try:
        found = texts_of([text(shape, data)], 2)
    except DataError:
        return
    assert len(found) == shape[0]
    assert all(one.strip() for one in found)
