"""Whatever is taken away, the graph computes the same."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from onnx import helper
from onnx.helper import make_node

from compresslab.export.compact import compact, to_bytes

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(2, 4, 9, 9)).astype(np.float32)


def compacted(model: onnx.ModelProto) -> onnx.ModelProto:
    # A copy: tensors in the intermediate form are views of the proto.
    made = ir.from_proto(onnx.load_model_from_string(model.SerializeToString()))
    compact(made)
    result = onnx.load_model_from_string(to_bytes(made))
    onnx.checker.check_model(result, full_check=True)
    return result


def run(model: onnx.ModelProto) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: IMAGES})[0]


def test_attributes_that_say_nothing_go_and_others_stay(graph):
    model = graph(
        [
            make_node("Conv", ["input", "v"], ["c"], group=2, dilations=[1, 1], strides=[2, 2], pads=[1, 1, 1, 1]),
            make_node("Conv", ["c", "w"], ["d"], group=1, auto_pad="NOTSET", dilations=[2, 2], strides=[1, 1],
                      pads=[2, 2, 2, 2]),
            make_node("AveragePool", ["d"], ["p"], kernel_shape=[2, 2], strides=[1, 1], pads=[0, 0, 0, 0], ceil_mode=0),
            make_node("Flatten", ["p"], ["f"], axis=1),
            make_node("Softmax", ["f"], ["logits"], axis=-1),
        ],
        {
            "v": RNG.normal(size=(6, 2, 3, 3)).astype(np.float32), "w": RNG.normal(size=(2, 6, 3, 3)).astype(np.float32)
        },
        ["batch", 4, 9, 9], ["batch", 32],
    )  # fmt: skip
    found = compacted(model)
    np.testing.assert_array_equal(run(found), run(model))
    assert [sorted(attribute.name for attribute in node.attribute) for node in found.graph.node] == [
        ["group", "pads", "strides"], ["dilations", "pads"], ["kernel_shape"], [], [],
    ]  # fmt: skip


def test_short_names_do_not_meet_the_names_that_stay(graph):
    """The input is called `a`, the output `b`, and inner values have each other's future names."""
    model = graph(
        [make_node("Relu", ["input"], ["c"]), make_node("Neg", ["c"], ["d"]), make_node("Add", ["d", "e"], ["logits"])],
        {"e": np.float32(2)}, ["batch", 4, 9, 9], ["batch", 4, 9, 9],
    )  # fmt: skip
    model.graph.node[0].input[0] = model.graph.input[0].name = "a"
    model.graph.node[2].output[0] = model.graph.output[0].name = "b"
    found = compacted(model)
    np.testing.assert_array_equal(run(found), run(model))
    assert [value.name for value in (*found.graph.input, *found.graph.output)] == ["a", "b"]


def test_values_inside_a_branch_are_renamed_with_those_outside(graph):
    branch = [
        helper.make_graph([make_node(operator, ["relu_output", "weight"], [f"long_{operator}"])], operator, [],
                          [helper.make_tensor_value_info(f"long_{operator}", onnx.TensorProto.FLOAT, None)])
        for operator in ("Add", "Mul")
    ]  # fmt: skip
    model = graph(
        [
            make_node("Relu", ["input"], ["relu_output"]),
            make_node("If", ["yes"], ["logits"], then_branch=branch[0], else_branch=branch[1]),
        ],
        {"weight": np.float32(2), "yes": np.array(True)}, ["batch", 4, 9, 9], ["batch", 4, 9, 9],
    )  # fmt: skip
    found = compacted(model)
    np.testing.assert_array_equal(run(found), np.maximum(IMAGES, 0) + 2)


def test_equal_constants_are_stored_once(graph):
    model = graph(
        [make_node("Mul", ["input", "s"], ["c"]), make_node("Mul", ["c", "t"], ["logits"])],
        {"s": np.float32(2), "t": np.float32(2), "unused": np.zeros(50, np.float32)},
        ["batch", 4, 9, 9], ["batch", 4, 9, 9],
    )  # fmt: skip
    found = compacted(model)
    assert len(found.graph.initializer) == 1
    np.testing.assert_array_equal(run(found), IMAGES * 4)


def test_the_same_graph_gives_the_same_bytes(graph):
    model = graph([make_node("Relu", ["input"], ["logits"])], {}, ["batch", 4, 9, 9], ["batch", 4, 9, 9])
    assert compacted(model).SerializeToString() == compacted(compacted(model)).SerializeToString()


def test_a_float_layer_of_sequences_has_its_layers_name(graph):
    """Its weights come transposed and nameless; profiles and reports must be able to say which layer it is."""
    model = graph(
        [make_node("MatMul", ["input", "val_3"], ["m"], name="node_MatMul_3"),
         make_node("Add", ["m", "block.out.bias"], ["a"], name="node_linear"),
         make_node("MatMul", ["a", "a"], ["p"], name="node_matmul"),
         make_node("Add", ["p", "block.out.bias"], ["logits"])],
        {"val_3": np.eye(9, dtype=np.float32), "block.out.bias": np.ones(9, np.float32)},
        ["batch", 4, 9, 9], ["batch", 4, 9, 9],
    )  # fmt: skip
    assert [node.name for node in compacted(model).graph.node][:3] == ["block.out", "linear", "matmul"]
