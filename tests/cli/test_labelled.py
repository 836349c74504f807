"""Data on the command line for a model of scores: which part is taken, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compresslab.cli.labelled import labelled_data
from compresslab.digest import digest_file
from compresslab.errors import DataError
from compresslab.measure.artifact import Artifact, GraphInfo, Manifest, TensorInfo, load_artifact, write_manifest
from compresslab.measure.preprocessing import FeaturePreprocessing

from .conftest import Ended

Command = Callable[..., Ended]
FEATURES = np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32)


def write_sum(folder: Path, weights: tuple[float, float, float]) -> Artifact:
    """A model that adds three features, weighted."""
    folder.mkdir()
    values = numpy_helper.from_array(np.float32(weights)[:, np.newaxis], "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["input", "w"], ["score"])], "sum",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch", 1])], [values],
    )  # fmt: skip
    path = folder / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    info = GraphInfo(
        file=path.name, sha256=digest_file(path), bytes=path.stat().st_size, opset=18,
        inputs=(TensorInfo(name="input", dtype="float32", shape=("batch", 3)),),
        outputs=(TensorInfo(name="score", dtype="float32", shape=("batch", 1)),),
    )  # fmt: skip
    how = FeaturePreprocessing(width=3, mean=(0.0,) * 3, std=(1.0,) * 3)
    manifest = Manifest(graphs={"model": info}, preprocessing=how, labels=(), target="sum", params=3, macs=3)
    write_manifest(folder, manifest)
    return load_artifact(folder)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model that is right on `rows.npz`, and one that is nearly."""
    monkeypatch.chdir(tmp_path)
    write_sum(Path("right"), (1.0, 2.0, 0.0))
    write_sum(Path("near"), (1.0, 2.0, 0.3))
    np.savez("rows.npz", features=FEATURES, targets=FEATURES @ np.float32([1.0, 2.0, 0.0]))
    return tmp_path


def test_the_test_part_is_taken_where_there_is_one(here: Path) -> None:
    parts = {"test_features": FEATURES[:7], "test_targets": np.arange(7)}
    np.savez("more.npz", features=FEATURES, targets=FEATURES[:, 0], **parts)
    split, note = labelled_data(Path("more.npz"), load_artifact(Path("right")))
    assert split.targets.tolist() == list(range(7))
    assert note == "quality on `test` of more.npz: 7 examples"


def test_a_folder_has_no_features(here: Path) -> None:
    with pytest.raises(DataError, match=r"is a folder, but the model reads features; give an \.npz file"):
        labelled_data(Path("right"), load_artifact(Path("right")))


@pytest.mark.parametrize(
    ("limits", "code", "said"),
    [
        ("spearman: 0.9\nspearman_drop: 0.05\n", 0, "spearman_drop"),
        ("spearman_drop: 0.001\n", 1, "fail"),
        ("accuracy: 0.9\n", 2, "accuracy: the model's answers are of another kind; limit one of `spearman`"),
    ],
)
def test_scores_pass_the_gate_or_do_not(command: Command, here: Path, limits: str, code: int, said: str) -> None:
    Path("budget.yaml").write_text(limits, encoding="utf-8")
    ended = command("gate", "near", "--budget", "budget.yaml", "--data", "rows.npz", "--baseline", "right")
    assert ended.code == code
    assert said in ended.out + ended.err


def test_models_of_scores_are_compared_by_metrics_of_scores(command: Command, here: Path) -> None:
    from compresslab.cli.compare import _quality_rows, _split
    from compresslab.cli.targets import resolve

    near, right = resolve(Path("near")), resolve(Path("right"))
    rows = _quality_rows(near, right, _split(near, right, Path("rows.npz"), {}))
    assert [row.id for row in rows] == ["spearman", "pearson", "r2"]
    assert {row.cells[-1] for row in rows} == {"worse"}
