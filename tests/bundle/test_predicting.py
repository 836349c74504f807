"""The reference client: what it answers is what evaluation measured."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.servers.bundles import LABELS, example_inputs, feature_bundle, image_bundle, two_graph_bundle
from compresslab.bundle.predicting import choose_graph, predictions, reading_notes
from compresslab.errors import ArtifactError, BadInput, DataError
from compresslab.measure.artifact import Artifact
from compresslab.measure.evaluate import predict
from compresslab.measure.text_preprocessing import TextPreprocessing
from tests.texts import train_tokenizer


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    return image_bundle(tmp_path / "bundle")


@pytest.fixture
def pixels() -> np.ndarray:
    """uint8 [70, 28, 28, 1]: more than are run at once."""
    return np.random.default_rng(0).integers(0, 256, (70, 28, 28, 1), np.uint8)


def test_an_image_is_answered_as_by_the_evaluation(artifact: Artifact, pixels: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(pixels[0, ..., 0]).save(tmp_path / "x.png")
    (answer,) = predictions(artifact, "model", [tmp_path / "x.png"])
    expected = predict(artifact, pixels[:1])[0]
    np.testing.assert_allclose(answer.outputs["logits"], expected, rtol=1e-5, atol=1e-6)
    shares = np.exp(expected - expected.max()) / np.exp(expected - expected.max()).sum()
    assert [label for label, _ in answer.labels] == [LABELS[index] for index in np.argsort(-expected)]
    assert answer.labels[0][1] == pytest.approx(shares.max(), rel=1e-5)
    assert sum(share for _, share in answer.labels) == pytest.approx(1)
    assert answer.row is None


def test_arrays_of_pixels_and_of_inputs_give_the_same(artifact: Artifact, pixels: np.ndarray, tmp_path: Path) -> None:
    normalized = artifact.manifest.preprocessing.normalize(pixels)
    arrays = {"pixels": pixels, "without_channels": pixels[..., 0], "normalized": normalized}
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    np.savez(tmp_path / "named.npz", pixels=normalized)
    expected = predict(artifact, pixels)
    for name in ("pixels.npy", "without_channels.npy", "normalized.npy", "named.npz"):
        answers = list(predictions(artifact, "model", [tmp_path / name]))
        assert [answer.row for answer in answers] == list(range(70)), name
        given = np.stack([answer.outputs["logits"] for answer in answers])
        np.testing.assert_allclose(given, expected, rtol=1e-5, atol=1e-6, err_msg=name)


def test_one_picture_without_a_batch_axis(artifact: Artifact, pixels: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", pixels[0, ..., 0])
    (answer,) = predictions(artifact, "model", [tmp_path / "one.npy"])
    np.testing.assert_allclose(answer.outputs["logits"], predict(artifact, pixels[:1])[0], rtol=1e-5, atol=1e-6)


def test_a_graph_without_labels_gives_its_outputs(tmp_path: Path) -> None:
    pair = two_graph_bundle(tmp_path / "pair")
    given = example_inputs(pair, "text", 3)
    np.savez(tmp_path / "texts.npz", **given)
    answers = list(predictions(pair, "text", [tmp_path / "texts.npz"]))
    assert len(answers) == 3
    plain = answers[1].plain(3)
    assert plain["row"] == 1
    assert np.shape(plain["outputs"]["embedding"]) == (16,)
    assert "labels" not in plain


def test_which_graph_is_asked_for(artifact: Artifact, tmp_path: Path) -> None:
    assert choose_graph(artifact, None) == "model"
    pair = two_graph_bundle(tmp_path / "pair")
    assert choose_graph(pair, "text") == "text"
    with pytest.raises(BadInput, match="several graphs, so name one: --graph image or text"):
        choose_graph(pair, None)
    with pytest.raises(BadInput, match="no graph `txt`; did you mean `text`"):
        choose_graph(pair, "txt")


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((2, 1, 28, 28)), r"must be float32 .* but got float64 \[2, 1, 28, 28\]"),
        (np.zeros((2, 1, 28, 27), np.float32), r"but got float32 \[2, 1, 28, 27\]"),
        (np.zeros((2, 27, 28, 1), np.uint8), r"but got uint8 \[2, 27, 28, 1\]"),
        (np.zeros((0, 1, 28, 28), np.float32), r"but got float32 \[0, 1, 28, 28\]"),
        (np.full((1, 1, 28, 28), np.nan, np.float32), "NaN or infinity"),
        (np.float32(3), r"but got float32 \[\]"),
    ],
)
def test_an_array_that_does_not_fit_is_refused(
    artifact: Artifact, array: np.ndarray, said: str, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(DataError, match=said):
        list(predictions(artifact, "model", [tmp_path / "x.npy"]))


def test_rows_of_features_give_a_score(tmp_path: Path) -> None:
    prices = feature_bundle(tmp_path / "prices")
    rows = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    np.save(tmp_path / "one.npy", rows[1])
    answers = list(predictions(prices, "model", [tmp_path / "rows.npy", tmp_path / "one.npy"]))
    expected = predict(prices, rows)[:, 0]
    assert [answer.score for answer in answers] == [("price", pytest.approx(value)) for value in expected[[0, 1, 2, 1]]]
    assert answers[2].plain(3) == {
        "input": str(tmp_path / "rows.npy"), "row": 2, "target": "price", "value": pytest.approx(expected[2]),
    }  # fmt: skip


def test_what_is_no_row_of_features_is_refused(tmp_path: Path) -> None:
    prices = feature_bundle(tmp_path / "prices")
    Image.new("L", (5, 5)).save(tmp_path / "x.png")
    with pytest.raises(DataError, match=r"x\.png: the model takes 5 features; give rows of them as an \.npy file"):
        list(predictions(prices, "model", [tmp_path / "x.png"]))
    np.save(tmp_path / "x.npy", np.zeros((2, 5)))
    with pytest.raises(DataError, match=r"x\.npy: features must be float32 \[n, 5\], but got float64"):
        list(predictions(prices, "model", [tmp_path / "x.npy"]))


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.png"])
def test_a_broken_file_is_a_data_error(artifact: Artifact, name: str, tmp_path: Path) -> None:
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], object), allow_pickle=True)
    pickled = (tmp_path / "objects.npy").read_bytes()
    lies = b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 1, 28, 28), }"
    for content in (b"", b"no array", pickled, lies.ljust(128) + b"\n", b"PK\x03\x04 cut off"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=f"{name}: .*(cannot be read|archive of arrays)"):
            list(predictions(artifact, "model", [tmp_path / name]))


def test_an_archive_with_other_names_is_refused(artifact: Artifact, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", image=np.zeros((1, 1, 28, 28), np.float32))
    with pytest.raises(DataError, match="it has the arrays image, but the graph takes pixels"):
        list(predictions(artifact, "model", [tmp_path / "x.npz"]))


def test_several_inputs_need_an_archive(tmp_path: Path) -> None:
    pair = two_graph_bundle(tmp_path / "pair")
    np.save(tmp_path / "x.npy", np.zeros((1, 8), np.int64))
    with pytest.raises(DataError, match=r"takes several inputs, tokens, mask; give an \.npz file"):
        list(predictions(pair, "text", [tmp_path / "x.npy"]))


def test_what_onnx_runtime_refuses_is_an_artifact_error(tmp_path: Path) -> None:
    """Token 50 of a table of 50."""
    pair = two_graph_bundle(tmp_path / "pair")
    np.savez(tmp_path / "x.npz", tokens=np.full((1, 8), 50), mask=np.ones((1, 8), np.int64))
    with pytest.raises(ArtifactError, match=r"x\.npz: `text\.onnx` does not run on it"):
        list(predictions(pair, "text", [tmp_path / "x.npz"]))


def test_it_needs_neither_torch_nor_onnx(artifact: Artifact, pixels: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(pixels[0, ..., 0]).save(tmp_path / "x.png")
    code = (
        "import sys; from compresslab.cli.app import invoke\n"
        f"assert invoke(['predict', {str(artifact.folder)!r}, {str(tmp_path / 'x.png')!r}, '--json']) == 0\n"
        "print([name for name in ('torch', 'onnx', 'sklearn', 'scipy') if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    answer, loaded = out.splitlines()
    assert json.loads(answer)["labels"][0]["label"] in LABELS
    assert loaded == "[]"


def test_what_is_not_read_of_texts_is_told(artifact: Artifact, tmp_path: Path) -> None:
    """An answer comes either way: only a note says that the model has seen little of what was asked."""
    how = TextPreprocessing.of(train_tokenizer(tmp_path / "own"), pad_id=0, max_length=8)
    texts = replace(artifact, manifest=artifact.manifest.model_copy(update={"preprocessing": how}))
    assert reading_notes(texts, ["refund my invoice"]) == ()
    assert reading_notes(artifact, ["x.png"]) == ()
    (tmp_path / "ask.txt").write_text("refund\n日 refund\n" + "refund " * 9, encoding="utf-8")
    cut, strange = reading_notes(texts, [tmp_path / "ask.txt", "日"])
    assert cut == "1 of 4 texts are longer than what the model reads, and were cut"
    assert strange.startswith("2 of 4 texts have parts that the model's vocabulary does not have, 20.0 % of all tokens")
    with pytest.raises(DataError, match="is empty, or nothing in it is read, so it has no answer"):
        list(predictions(texts, "model", ["\u200b"]))
    with pytest.raises(DataError, match=r"'abc\\udce9': is not UTF-8; give the text as UTF-8"):
        reading_notes(texts, ["abc\udce9"])  # as a shell hands on Latin-1
