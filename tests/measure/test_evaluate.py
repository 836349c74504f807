from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from compresslab.errors import ArtifactError, BenchmarkFailed, DataError
from compresslab.measure.evaluate import Answers, EvalSplit, predict

if TYPE_CHECKING:
    from collections.abc import Callable

    from compresslab.measure.artifact import Artifact

    MakeArtifact = Callable[..., Artifact]
    MakeSplits = Callable[[int, int], tuple[EvalSplit, EvalSplit]]


def test_outputs_are_those_of_the_network_on_preprocessed_images(
    make_artifact: MakeArtifact, right: np.ndarray
) -> None:
    artifact = make_artifact("model", right)
    images = np.random.default_rng(0).integers(0, 256, (10, 4, 4, 1), dtype=np.uint8)
    expected = ((images / 255.0 - 0.5) / 0.25).reshape(10, -1) @ right
    outputs = predict(artifact, images)
    assert outputs.dtype == np.float32
    np.testing.assert_allclose(outputs, expected, atol=1e-4)


@pytest.mark.parametrize("batch", [1, 7, 60, 1000])
def test_the_batch_size_changes_nothing(
    batch: int, make_artifact: MakeArtifact, make_splits: MakeSplits, right: np.ndarray
) -> None:
    """The last batch is smaller than the others."""
    split = make_splits(60, 1)[0]
    outputs = predict(make_artifact("model", right), split.inputs, batch)
    np.testing.assert_array_equal(outputs.argmax(axis=1), split.targets)


def test_outputs_that_are_not_finite_are_counted(
    make_artifact: MakeArtifact, make_splits: MakeSplits, right: np.ndarray
) -> None:
    """NaN has an argmax, too: without the check a broken model gets an accuracy."""
    broken = right.copy()
    broken[0, 0] = np.inf
    split = make_splits(60, 1)[0]
    with pytest.raises(BenchmarkFailed, match=r"model\.onnx: 60 of 60 outputs are NaN or infinite"):
        predict(make_artifact("broken", broken), split.inputs)


def test_a_graph_that_does_not_take_what_its_preprocessing_gives_is_refused(
    make_artifact: MakeArtifact, right: np.ndarray
) -> None:
    artifact = make_artifact("model", right)
    larger = artifact.manifest.preprocessing.model_copy(update={"height": 5})
    other = replace(artifact, manifest=artifact.manifest.model_copy(update={"preprocessing": larger}))
    with pytest.raises(ArtifactError, match=r"does not run on float32 \[2, 1, 5, 4\], which its preprocessing gives"):
        predict(other, np.zeros((2, 5, 4, 1), np.uint8))


def test_images_of_another_size_are_refused(make_artifact: MakeArtifact, right: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"images must be uint8 \[n, 4, 4, 1\]"):
        predict(make_artifact("model", right), np.zeros((2, 5, 5, 1), np.uint8))


def test_two_graphs_do_not_classify(make_artifact: MakeArtifact, right: np.ndarray) -> None:
    artifact = make_artifact("model", right)
    towers = replace(artifact, graphs={"image": artifact.graphs["model"], "text": artifact.graphs["model"]})
    with pytest.raises(ArtifactError, match="one graph is needed to answer, but it has image, text"):
        predict(towers, np.zeros((2, 4, 4, 1), np.uint8))


def test_answers_that_were_given_are_read_by_split() -> None:
    answers = Answers("x", {"validation": np.ones((3, 2), np.float32)})
    found = answers.on("validation", 3)
    assert found is not None
    assert found.tolist() == [[1.0, 1.0]] * 3
    assert answers.on("test", 3) is None


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (np.ones((4, 2), np.float32), r"answers on `validation` must be \[3, outputs\], .* but are \[4, 2\]"),
        (np.ones(3, np.float32), r"must be \[3, outputs\], one row for each of its samples, but are \[3\]"),
        (np.full((3, 1), np.nan, np.float32), "some of the teacher's answers on `validation` are NaN or infinite"),
    ],
)
def test_answers_that_do_not_fit_their_split_are_refused(outputs: np.ndarray, message: str) -> None:
    """Rows of another split would be another sample's answers."""
    with pytest.raises(DataError, match=message):
        Answers("x", {"validation": outputs}).on("validation", 3)
