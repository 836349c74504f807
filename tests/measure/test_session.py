from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from compresslab.errors import ArtifactError
from compresslab.measure.artifact import Artifact
from compresslab.measure.session import SessionOptions, open_session

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def model(make_artifact: Callable[..., Artifact], right: np.ndarray) -> Path:
    return make_artifact("model", right).graphs["model"]


def test_the_options_reach_onnx_runtime(model: Path, tmp_path: Path) -> None:
    optimized = tmp_path / "optimized.onnx"
    options = SessionOptions(graph_optimization="basic", allow_spinning=True)
    used = open_session(model, options, threads=2, optimized=optimized).get_session_options()
    assert used.intra_op_num_threads == 2
    assert used.inter_op_num_threads == 1
    assert used.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    assert used.get_session_config_entry("session.intra_op.allow_spinning") == "1"
    assert onnx.load(optimized).graph.node


def test_idle_threads_do_not_spin_by_default(model: Path) -> None:
    """Spinning threads of one session slow down whatever is measured beside it."""
    used = open_session(model, SessionOptions(), threads=2).get_session_options()
    assert used.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_telemetry_is_switched_off(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(onnxruntime, "disable_telemetry_events", lambda: calls.append("off"))
    open_session(model, SessionOptions(), threads=1)
    assert calls == ["off"]


@pytest.mark.parametrize("size", [0, 1, 100, -1])
def test_a_truncated_file_is_an_artifact_error(model: Path, size: int) -> None:
    model.write_bytes(model.read_bytes()[:size])
    with pytest.raises(ArtifactError, match=r"model\.onnx: ONNX Runtime .* cannot open it .*export the model again"):
        open_session(model, SessionOptions(), threads=1)


def test_a_missing_file_is_an_artifact_error(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"gone\.onnx: ONNX Runtime .* cannot open it"):
        open_session(tmp_path / "gone.onnx", SessionOptions(), threads=1)


def test_an_unknown_operator_is_an_artifact_error(tmp_path: Path) -> None:
    info = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Nonesuch", ["x"], ["y"], domain="custom")], "g", [info], [])
    graph.output.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, [1]))
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("custom", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), tmp_path / "odd.onnx")
    with pytest.raises(ArtifactError, match="Nonesuch"):
        open_session(tmp_path / "odd.onnx", SessionOptions(), threads=1)


def test_the_label_names_what_differs_from_the_default() -> None:
    assert SessionOptions().label == "default"
    assert SessionOptions(graph_optimization="basic").label == "graph_optimization=basic"
