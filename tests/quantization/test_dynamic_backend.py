from collections import Counter

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from compresslab.errors import ModelError
from compresslab.export.graph_costs import graph_costs
from compresslab.export.integer_operators import integer_operators
from compresslab.measure.session import SessionOptions, open_session
from compresslab.quantization import DynamicSettings, quantize_dynamic, require_products

RNG = np.random.default_rng(0)
TOKENS = RNG.integers(0, 50, (4, 6))


def saved(path, nodes, constants, given, result):
    graph = helper.make_graph(
        nodes, "g", [given], [result],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in constants.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), str(path))
    return path


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    """A table of embeddings and two layers, one with weights [out, in] as torch writes them."""
    constants = {
        "table": RNG.normal(size=(50, 16)), "position": RNG.normal(size=(6, 16)),
        "w": RNG.normal(size=(16, 32)) * np.logspace(-2, 1, 32),
        "b": RNG.normal(size=32), "u": RNG.normal(size=(3, 32)), "c": RNG.normal(size=3),
    }  # fmt: skip
    nodes = [
        helper.make_node("Gather", ["table", "tokens"], ["g"]),
        helper.make_node("Add", ["g", "position"], ["e"]),
        helper.make_node("MatMul", ["e", "w"], ["x"], name="first"),
        helper.make_node("Add", ["x", "b"], ["y"]),
        helper.make_node("Tanh", ["y"], ["z"]),
        helper.make_node("ReduceMean", ["z", "axes"], ["m"], keepdims=0),
        helper.make_node("Gemm", ["m", "u", "c"], ["logits"], transB=1, name="last"),
    ]
    path = saved(
        tmp_path_factory.mktemp("float") / "model.onnx", nodes, constants,
        helper.make_tensor_value_info("tokens", TensorProto.INT64, ["batch", 6]),
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3]),
    )  # fmt: skip
    model = onnx.load(str(path))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1]), "axes"))
    onnx.save(model, str(path))
    return path


def run(path):
    return open_session(path, SessionOptions(), 1).run(None, {"tokens": TOKENS})[0]


def error(path, reference):
    return np.square(run(path) - reference).mean() / np.square(reference).mean()


def stored(path):
    return {tuple(sorted(tensor.dims)): tensor.data_type for tensor in onnx.load(str(path)).graph.initializer}


def test_products_run_as_integer_kernels_with_weights_and_embeddings_in_eight_bits(graph, tmp_path, capfd):
    before = graph.read_bytes()
    made = quantize_dynamic(graph, tmp_path / "int8.onnx")
    assert graph.read_bytes() == before
    assert capfd.readouterr() == ("", "")
    kinds = stored(made.path)
    assert [kinds[shape] for shape in ((16, 32), (3, 32))] == [TensorProto.INT8] * 2
    assert kinds[16, 50] == TensorProto.UINT8
    open_session(made.path, SessionOptions(), 1, optimized=tmp_path / "optimized.onnx")
    kernels = Counter(node.op_type for node in onnx.load(str(tmp_path / "optimized.onnx")).graph.node)
    assert kernels["DynamicQuantizeMatMul"] + kernels["MatMulIntegerToFloat"] == 2
    found = integer_operators(made.path, SessionOptions())
    assert (found.integer, found.eligible, found.floating) == (2, 2, ())
    assert error(made.path, run(graph)) < 1e-3


def test_costs_are_those_of_the_float_graph(graph, tmp_path):
    """Scales and zero points are no parameters, and integer products do as many multiply-adds."""
    made = quantize_dynamic(graph, tmp_path / "int8.onnx")
    costs = graph_costs(onnx.load(str(made.path)))
    assert costs.macs == graph_costs(onnx.load(str(graph))).macs == 6 * 16 * 32 + 32 * 3
    assert costs.params == 50 * 16 + 6 * 16 + 16 * 32 + 32 + 32 * 3 + 3


def test_embeddings_may_stay_float_and_weights_may_share_a_scale(graph, tmp_path):
    coarse = quantize_dynamic(graph, tmp_path / "coarse.onnx", DynamicSettings(embeddings=False, per_channel=False))
    fine = quantize_dynamic(graph, tmp_path / "fine.onnx")
    assert stored(coarse.path)[16, 50] == TensorProto.FLOAT
    assert error(coarse.path, run(graph)) > 2 * error(fine.path, run(graph)), "columns differ in size by a thousand"


def test_a_graph_that_is_quantized_already(graph, tmp_path):
    made = quantize_dynamic(graph, tmp_path / "int8.onnx")
    with pytest.raises(ModelError, match=r"int8\.onnx: the graph is quantized already.*MatMulInteger"):
        quantize_dynamic(made.path, tmp_path / "again.onnx")


def convolutional(path, width):
    constants = {
        "w": RNG.normal(size=(8, 4, 3, 3)),
        "u": RNG.normal(size=(128, width)),
        "v": RNG.normal(size=(width, 3)),
    }
    nodes = [
        helper.make_node("Conv", ["pixels", "w"], ["c"]),
        helper.make_node("Flatten", ["c"], ["f"]),
        helper.make_node("MatMul", ["f", "u"], ["h"]),
        helper.make_node("MatMul", ["h", "v"], ["logits"]),
    ]
    return saved(
        path, nodes, constants, helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 4, 6, 6]),
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3]),
    )  # fmt: skip


def test_where_convolutions_do_most_of_the_work_it_is_refused_with_what_was_measured(tmp_path):
    small = convolutional(tmp_path / "small.onnx", 16)
    with pytest.raises(ModelError, match=r"convolutions do 68 % of the multiply-adds.*22 ms against 15\.4 ms in float"):
        quantize_dynamic(small, tmp_path / "int8.onnx")
    assert not (tmp_path / "int8.onnx").exists()


def test_a_convolution_that_does_little_stays_in_float(tmp_path):
    """As the patches of a vision transformer: its slow integer kernel must not be there."""
    made = quantize_dynamic(convolutional(tmp_path / "large.onnx", 64), tmp_path / "int8.onnx")
    found = integer_operators(made.path, SessionOptions())
    assert (found.integer, found.eligible) == (2, 3)
    assert [line.partition("(")[2].partition(")")[0] for line in found.floating] == ["Conv"]


class Patches(nn.Module):
    """A convolution, then `layers` linear layers on what it gives."""

    def __init__(self, layers):
        super().__init__()
        self.patches = nn.Conv2d(1, 16, 4, stride=4)
        self.layers = nn.Sequential(*(nn.Linear(16, 16) for _ in range(layers)))
        self.dropout = nn.Dropout(0.5)

    def forward(self, x):
        return self.dropout(self.layers(self.patches(x).flatten(2).transpose(1, 2)).mean(1))


def test_a_network_is_judged_before_it_is_a_graph():
    """By the same rule, and left as it was: in training mode, without hooks."""
    images = torch.zeros(2, 1, 8, 8)
    module = Patches(layers=1).train()
    require_products(module, images)
    assert module.training
    assert not any(part._forward_hooks for part in module.modules())
    with pytest.raises(ModelError, match=r"convolutions do all of the multiply-adds.*`backend: own` or `onnxruntime`"):
        require_products(Patches(layers=0), images)
