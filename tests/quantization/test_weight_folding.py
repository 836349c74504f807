import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from compresslab.export.compact import to_bytes
from compresslab.quantization.weight_folding import fold_weights

RNG = np.random.default_rng(0)
WEIGHT = RNG.normal(size=(4, 3)).astype(np.float32)


def constant(name, array):
    return ir.Value(name=name, const_value=ir.tensor(array, name=name))


def model(*, scale, zero_point, axis=None, clip=None, weight=WEIGHT):
    """x @ DequantizeLinear(Clip(QuantizeLinear(weight))), as torch's exporter writes PT2E weights."""
    shape = ir.Shape(["batch", weight.shape[0]])
    x = ir.Value(name="x", shape=shape, type=ir.TensorType(ir.DataType.FLOAT))
    given = [constant("layer.weight", weight), constant("scale", scale), constant("zero", zero_point)]
    attributes = {} if axis is None else {"axis": axis}
    quantize = ir.node("QuantizeLinear", given, attributes=attributes)
    nodes, value = [quantize], quantize.outputs[0]
    if clip is not None:
        given += [constant("low", clip[0]), constant("high", clip[1])]
        nodes.append(ir.node("Clip", [value, *given[-2:]]))
        value = nodes[-1].outputs[0]
    nodes.append(ir.node("DequantizeLinear", [value, *given[1:3]], attributes=attributes))
    nodes.append(ir.node("MatMul", [x, nodes[-1].outputs[0]]))
    y = nodes[-1].outputs[0]
    y.name, y.type, y.shape = "y", ir.TensorType(ir.DataType.FLOAT), ir.Shape(["batch", weight.shape[1]])
    graph = ir.Graph([x], [y], nodes=nodes, initializers=given, opset_imports={"": 18}, name="g")
    return ir.Model(graph, ir_version=10)


def answer(made):
    session = onnxruntime.InferenceSession(to_bytes(made), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.eye(4, dtype=np.float32)})[0]


PER_CHANNEL = np.array([0.01, 0.02, 0.005], np.float32)  # the last saturates
CASES = {
    "per channel": {"scale": PER_CHANNEL, "zero_point": np.zeros(3, np.int8), "axis": 1},
    "other axis": {"scale": np.full(4, 0.01, np.float32), "zero_point": np.arange(4, dtype=np.int8), "axis": 0},
    "negative axis": {"scale": PER_CHANNEL, "zero_point": np.zeros(3, np.int8), "axis": -1},
    "one scale": {"scale": np.float32(0.02), "zero_point": np.int8(3)},
    "uint8": {"scale": np.float32(0.02), "zero_point": np.uint8(128)},
    "clipped": {
        "scale": PER_CHANNEL, "zero_point": np.zeros(3, np.int8), "axis": 1, "clip": (np.int8(-20), np.int8(127)),
    },
    "half to even": {
        "scale": np.float32(1), "zero_point": np.int8(0), "weight": np.array([[0.5], [1.5], [2.5], [-0.5]], np.float32),
    },
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_weight_becomes_integers_and_the_outputs_stay_the_same_to_the_bit(name):
    """ONNX Runtime folds them itself when it loads the graph: what it would have computed must be in the file."""
    case = CASES[name]
    expected, made = answer(model(**case)), model(**case)
    assert fold_weights(made.graph) == 1
    assert sorted(node.op_type for node in made.graph) == ["DequantizeLinear", "MatMul"]
    tensor = made.graph.initializers["layer.weight"].const_value
    assert tensor.numpy().dtype == np.asarray(case["zero_point"]).dtype
    assert "layer.weight.float" not in {value.name for node in made.graph for value in node.inputs}
    np.testing.assert_array_equal(answer(made), expected)


def test_what_is_computed_is_left_alone():
    made = model(scale=np.float32(0.02), zero_point=np.int8(0))
    quantize = next(iter(made.graph))
    quantize.replace_input_with(0, made.graph.inputs[0])
    assert fold_weights(made.graph) == 0
    assert quantize.op_type in [node.op_type for node in made.graph]
