import logging

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from pydantic import ValidationError

from compresslab.errors import ArtifactError, DataError, ModelError
from compresslab.export.integer_operators import integer_operators
from compresslab.measure.session import SessionOptions, open_session
from compresslab.quantization import OnnxRuntimeSettings, quantize_static

RNG = np.random.default_rng(0)
BATCHES = [RNG.normal(size=(16, 4, 6, 6)).astype(np.float32) for _ in range(3)]


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    """Two convolutions, a sum, a pool and a linear layer, in float. Built by hand: an export would take seconds."""
    constants = {
        "v": RNG.normal(size=(16, 4, 3, 3)) * 0.2, "vb": RNG.normal(size=16),
        "w": RNG.normal(size=(16, 16, 3, 3)) * 0.1, "wb": RNG.normal(size=16),
        "u": RNG.normal(size=(3, 16)), "ub": RNG.normal(size=3),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["pixels", "v", "vb"], ["c"], pads=[1] * 4),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Conv", ["r", "w", "wb"], ["d"], pads=[1] * 4),
        helper.make_node("Add", ["d", "r"], ["a"]),
        helper.make_node("GlobalAveragePool", ["a"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "u", "ub"], ["logits"], transB=1),
    ]
    model = helper.make_model(
        helper.make_graph(
            nodes, "g", [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 4, 6, 6])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
            [numpy_helper.from_array(array.astype(np.float32), name) for name, array in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 18)], ir_version=10,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("float") / "model.onnx"
    onnx.save(model, str(path))
    return path


def run(path, images):
    return open_session(path, SessionOptions(), 1).run(None, {"pixels": images})[0]


@pytest.mark.parametrize("calibration", ["minmax", "percentile"])
def test_it_quantizes_with_the_fast_settings(calibration, graph, tmp_path, capfd, caplog):
    before = graph.read_bytes()
    with caplog.at_level(logging.WARNING):
        settings = OnnxRuntimeSettings(calibration=calibration)
        made = quantize_static(graph, tmp_path / "int8.onnx", iter(BATCHES), settings)
    assert made.path == tmp_path / "int8.onnx"
    assert graph.read_bytes() == before
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []
    found = integer_operators(made.path, SessionOptions())
    assert (found.integer, found.eligible) == (5, 5)
    initializers = {tensor.name: tensor for tensor in onnx.load(str(made.path)).graph.initializer}
    weights = next(tensor for tensor in initializers.values() if tuple(tensor.dims) == (16, 16, 3, 3))
    assert weights.data_type == TensorProto.INT8
    assert any(tensor.dims == [16] and "scale" in name for name, tensor in initializers.items())
    expected = run(graph, BATCHES[0])
    assert np.square(run(made.path, BATCHES[0]) - expected).mean() < 0.001 * np.square(expected).mean()


def transformer(path):
    """Attention of a sequence with itself, one product with weights, and a sum."""
    constants = {"w": RNG.normal(size=(8, 8)), "one": np.ones(8), "zero": np.zeros(8)}
    nodes = [
        helper.make_node("LayerNormalization", ["sequence", "one", "zero"], ["n"]),
        helper.make_node("MatMul", ["n", "w"], ["q"]),
        helper.make_node("MatMul", ["q", "mask"], ["m"], name="attention"),
        helper.make_node("Add", ["m", "sequence"], ["result"]),
    ]
    given = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", length, 8])
        for name, length in (("sequence", 5), ("mask", 8))
    ]
    graph = helper.make_graph(
        nodes, "g", given, [helper.make_tensor_value_info("result", TensorProto.FLOAT, ["batch", 5, 8])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in constants.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), str(path))
    return path


def sequences():
    return [
        {name: RNG.normal(size=(4, length, 8)).astype(np.float32) for name, length in (("sequence", 5), ("mask", 8))}
        for _ in range(2)
    ]


@pytest.mark.parametrize(("operators", "sums"), [("auto", False), ("layers", False), ("all", True)])
def test_of_a_transformer_only_the_layers_are_quantized(operators, sums, tmp_path):
    """All operators cost it 14 dB. It may have several inputs, each batch naming them."""
    settings = OnnxRuntimeSettings(operators=operators)
    made = quantize_static(transformer(tmp_path / "t.onnx"), tmp_path / "int8.onnx", sequences(), settings)
    graph = onnx.load(str(made.path)).graph
    makers = {name: node.op_type for node in graph.node for name in node.output}
    readers = {name: node.op_type for node in graph.node for name in node.input}
    layer, attention = (node for node in graph.node if node.op_type == "MatMul")
    added = next(node for node in graph.node if node.op_type == "Add")
    assert [makers[name] for name in layer.input] == ["DequantizeLinear"] * 2
    assert (readers[layer.output[0]] == "QuantizeLinear") == sums, "what reads floats gets them"
    assert ("DequantizeLinear" in [makers.get(name) for name in added.input]) == sums
    assert "QuantizeLinear" not in [makers.get(name) for name in attention.input]


def test_attention_in_integers_is_there_to_be_asked_for(tmp_path):
    settings = OnnxRuntimeSettings(attention="int8")
    made = quantize_static(transformer(tmp_path / "t.onnx"), tmp_path / "int8.onnx", sequences(), settings)
    graph = onnx.load(str(made.path)).graph
    makers = {name: node.op_type for node in graph.node for name in node.output}
    products = [node for node in graph.node if node.op_type == "MatMul"]
    assert [[makers[name] for name in node.input] for node in products] == [["DequantizeLinear"] * 2] * 2


def test_of_a_network_without_attention_sums_are_quantized_too(graph, tmp_path):
    made = quantize_static(graph, tmp_path / "int8.onnx", BATCHES, OnnxRuntimeSettings(operators="layers"))
    assert integer_operators(made.path, SessionOptions()).integer < 5


def test_percentile_cuts_the_outermost_values(graph, tmp_path):
    def first_scale(percentile):
        settings = OnnxRuntimeSettings(calibration="percentile", percentile=percentile)
        made = quantize_static(graph, tmp_path / "int8.onnx", BATCHES, settings)
        graph_ = onnx.load(str(made.path)).graph
        scales = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph_.initializer}
        return float(scales["pixels_scale"])

    assert first_scale(90.0) < 0.6 * first_scale(99.999)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"activations": "int8"}, "int8 activations have no fast kernel.*use `uint8`"),
        ({"weights": "uint8"}, "uint8 weights have no fast kernel.*use `int8`"),
    ],
)
def test_slow_settings_are_refused(arguments, message):
    with pytest.raises(ValidationError, match=message):
        OnnxRuntimeSettings(**arguments)


def test_a_graph_that_is_quantized_already(graph, tmp_path):
    first = quantize_static(graph, tmp_path / "int8.onnx", BATCHES)
    with pytest.raises(ModelError, match=r"int8\.onnx: the graph is quantized already.*QuantizeLinear"):
        quantize_static(first.path, tmp_path / "again.onnx", BATCHES)


def test_inputs_that_are_not_finite(graph, tmp_path):
    broken = BATCHES[0].copy()
    broken[3, 0, 0, 0] = np.nan
    with pytest.raises(DataError, match="batch 1 holds NaN or infinity"):
        quantize_static(graph, tmp_path / "int8.onnx", [BATCHES[0], broken])


def test_no_batches(graph, tmp_path):
    with pytest.raises(DataError, match="no calibration batches"):
        quantize_static(graph, tmp_path / "int8.onnx", [])


def test_a_file_that_is_not_onnx(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(ArtifactError, match=r"model\.onnx: not a readable ONNX file"):
        quantize_static(tmp_path / "model.onnx", tmp_path / "int8.onnx", BATCHES)
