"""ONNX files as networks: what is taken, what is refused before anything is spent on it, and what they answer."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from compresslab import ArtifactError, ModelError
from compresslab.candidate import OnnxModel
from compresslab.models.onnx_net import OnnxNetwork, digest, open_onnx, require_onnx_fit


def graph(folder, shape=("n", 3), *, dtype=TensorProto.FLOAT, outputs=1, classes=2, weight=1.0, name="net.onnx"):
    """A file of one matrix product, with names that no exporter of ours gives."""
    weights = np.full((3, classes), weight, np.float32)
    nodes = [helper.make_node("Cast", ["data_0"], ["as_float"], to=TensorProto.FLOAT)]
    nodes += [helper.make_node("MatMul", ["as_float", "w"], [f"prob_{index}"]) for index in range(outputs)]
    made = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("data_0", dtype, list(shape))],
        [helper.make_tensor_value_info(f"prob_{index}", TensorProto.FLOAT, None) for index in range(outputs)],
        [numpy_helper.from_array(weights, "w")],
    )
    path = folder / name
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_a_graph_with_names_of_its_own_answers_as_onnxruntime_does(tmp_path):
    path = graph(tmp_path, weight=0.5)
    inputs = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    require_onnx_fit(open_onnx(path), inputs, 2)
    (expected,) = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"data_0": inputs})
    np.testing.assert_allclose(OnnxNetwork(path)(torch.from_numpy(inputs)).numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ({"shape": (1, 3)}, r"a batch of 1 and no other; export it with a dynamic batch"),
        ({"outputs": 2}, r"gives `prob_0` .* `prob_1` .* which of them is the answer is not known"),
    ],
)
def test_what_does_not_take_or_give_one_array_is_refused(made, message, tmp_path):
    with pytest.raises(ModelError, match=message):
        open_onnx(graph(tmp_path, **made))


def test_a_file_that_is_no_onnx_is_refused(tmp_path):
    (tmp_path / "net.onnx").write_bytes(b"not a graph")
    with pytest.raises(ArtifactError, match="not a readable ONNX file"):
        open_onnx(tmp_path / "net.onnx")
    with pytest.raises(ArtifactError, match="not a readable ONNX file"):
        open_onnx(tmp_path / "missing.onnx")


@pytest.mark.parametrize(
    ("made", "width", "outputs", "message"),
    [
        ({"dtype": TensorProto.DOUBLE}, 3, 2, r"takes `data_0` float64 \['n', 3\], but the task gives float32"),
        ({}, 3, 5, r"gives shape \[2, 2\] for 2 inputs, but the task has 5 labels and needs \[2, 5\]"),
        ({}, 3, 1, r"the task asks for one number a sample"),
        (
            {"shape": ("n", "m", 3)},
            (1, 3),
            None,
            r"\[2, 1, 2\] for 2 inputs, .* an embedding of each and needs \[2, width\]",
        ),
        ({}, 4, 2, r"takes `data_0` .*, but the task's inputs are \[4\] a sample"),
        ({"weight": np.nan}, 3, 2, "gives NaN or infinity on the task's own inputs"),
        ({"shape": ("n", "d")}, 4, 2, r"does not run on inputs of shape \[2, 4\]"),
    ],
)
def test_a_graph_for_another_task_is_refused(made, width, outputs, message, tmp_path):
    model = open_onnx(graph(tmp_path, **made))
    with pytest.raises(ModelError, match=message):
        require_onnx_fit(model, np.ones((2, *np.atleast_1d(width)), np.float32), outputs)


def test_an_embedding_may_have_any_width(tmp_path):
    require_onnx_fit(open_onnx(graph(tmp_path, classes=7)), np.ones((2, 3), np.float32), None)


def test_the_digest_is_of_the_weights_too_where_they_lie_in_a_file_of_their_own(tmp_path):
    first, second = (tmp_path / name for name in ("a", "b"))
    digests = []
    for folder, weight in ((first, 1.0), (second, 2.0)):
        folder.mkdir()
        model = onnx.load(graph(folder, weight=weight))
        onnx.save(model, folder / "big.onnx", save_as_external_data=True, location="big.bin", size_threshold=0)
        digests.append(digest(OnnxModel(folder / "big.onnx")))
    assert (first / "big.onnx").read_bytes() == (second / "big.onnx").read_bytes()
    assert digests[0] != digests[1]
