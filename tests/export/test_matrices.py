"""Integer layers of sequences are computed as layers of their rows, and nothing else changes."""

from collections import Counter

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from compresslab.export.compact import compact, to_bytes
from compresslab.export.matrices import multiply_rows

WIDTH = 8
TEXT = ("batch", "sequence")


def layer(name: str, source: str, *, bias: bool = True) -> str:
    """A linear layer between Q/DQ pairs, in ONNX's text form, and its weights."""
    add = f"{name} = Add({name}.product, {name}.bias)" if bias else f"{name} = Identity({name}.product)"
    return f"""
        {name}.q = QuantizeLinear({source}, scale, zero)
        {name}.d = DequantizeLinear({name}.q, scale, zero)
        {name}.w = DequantizeLinear<axis = 0>({name}.weight, {name}.scale, {name}.zero)
        {name}.t = Transpose<perm = [1, 0]>({name}.w)
        {name}.product = MatMul({name}.d, {name}.t)
        {add}"""


def model(body: str, leading: tuple[object, ...] = TEXT, width: int = WIDTH, given: str = "x") -> ir.Model:
    """The body as a model with all constants that it names; every inner value has the input's shape."""
    dims = ", ".join(map(str, leading))
    graph = ir.from_onnx_text(
        f'<ir_version: 10, opset_import: ["": 18]> g (float[{dims}, {width}] {given}) => (float[{dims}, {width}] y) '
        f"{{ {body} }}".replace(".", "_")
    )
    generator = np.random.default_rng(0)
    constants: dict[str, np.ndarray] = {
        "scale": np.float32(0.03), "zero": np.uint8(128), "half": np.float32(0.5),
        "gain": generator.normal(size=width).astype(np.float32),
        "flat": np.array([-1, width], np.int64),
    }  # fmt: skip
    for index in range(4):
        constants |= {
            f"l{index}_weight": generator.integers(-127, 128, (width, width)).astype(np.int8),
            f"l{index}_scale": (scales := generator.uniform(0.001, 0.01, width).astype(np.float32)),
            f"l{index}_zero": np.zeros(width, np.int8),
            # Whole steps, so that rounding it moves nothing over the edge of another step further on.
            f"l{index}_bias": (generator.integers(-5000, 5000, width) * scales * np.float32(0.03)).astype(np.float32),
        }
    used = {value.name for node in graph.graph for value in node.inputs if value is not None}
    for name, array in constants.items():
        if name in used:
            fresh = ir.Value(name=name, const_value=ir.tensor(array, name=name))
            fresh.shape, fresh.dtype = ir.Shape(array.shape), ir.DataType.from_numpy(array.dtype)
            for node in graph.graph:
                for place, value in enumerate(node.inputs):
                    if value is not None and value.name == name:
                        node.replace_input_with(place, fresh)
            graph.graph.register_initializer(fresh)
    for node in graph.graph:
        for value in node.outputs:
            if value.shape is None:
                value.shape = graph.graph.inputs[0].shape
    return graph


def run(graph: ir.Model, x: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(to_bytes(graph), options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def rewritten(body: str, **shape: object) -> tuple[ir.Model, ir.Model, Counter]:
    """As it was, as it is, and the operators of that."""
    before, after = model(body, **shape), model(body, **shape)  # type: ignore[arg-type]
    multiply_rows(after.graph)
    compact(after)
    compact(before)
    return before, after, Counter(node.op_type for node in after.graph)


BLOCK = (
    layer("l0", "x")
    + """
        act = Erf(l0)"""
    + layer("l1", "act")
    + """
        sum = Add(l1, x)
        norm = LayerNormalization<axis = -1>(sum, gain, l0.bias)"""
    + layer("l2", "norm")
    + """
        y = Add(l2, sum)"""
)


@pytest.mark.parametrize("leading", [TEXT, ("batch", 5), (2, 5)])
def test_a_block_is_computed_by_rows_and_gives_the_same(leading):
    before, after, found = rewritten(BLOCK, leading=leading)
    assert found["MatMul"] == 0
    assert found["Gemm"] == 3
    # Rows of `x`, twice (quantized and not), and the two sequences that the last sum reads.
    assert found["Reshape"] <= 4, "nothing in between becomes a sequence again"
    for length in (3, 5) if leading == TEXT else (5,):
        x = np.random.default_rng(length).normal(size=(2, length, WIDTH)).astype(np.float32)
        np.testing.assert_allclose(run(after, x), run(before, x), atol=1e-3)
        assert np.abs(run(before, x)).max() > 0.5


def test_a_layer_without_bias():
    before, after, found = rewritten(layer("l0", "x", bias=False) + "\n y = Mul(l0, half)")
    assert (found["Gemm"], found["MatMul"]) == (1, 0)
    x = np.random.default_rng(0).normal(size=(2, 3, WIDTH)).astype(np.float32)
    np.testing.assert_allclose(run(after, x), run(before, x), atol=1e-5)


def test_what_mixes_positions_gets_the_sequence():
    """A softmax over positions, computed of rows, would mix examples."""
    body = layer("l0", "x") + "\n mixed = Softmax<axis = 1>(l0)" + layer("l1", "mixed")
    before, after, found = rewritten(body + "\n y = Mul(l1, half)")
    assert found["Gemm"] == 2
    x = np.random.default_rng(0).normal(size=(3, 4, WIDTH)).astype(np.float32)
    np.testing.assert_allclose(run(after, x), run(before, x), atol=1e-4)


def test_a_normalization_over_positions_too_gets_the_sequence():
    body = layer("l0", "x") + "\n y0 = LayerNormalization<axis = 1>(l0, table)\n y = Mul(y0, half)"
    graph = model(body, leading=("batch", 4))
    table = ir.Value(name="table", const_value=ir.tensor(np.ones((4, WIDTH), np.float32), name="table"))
    graph.graph.register_initializer(table)
    (norm,) = (node for node in graph.graph if node.op_type == "LayerNormalization")
    norm.replace_input_with(1, table)
    multiply_rows(graph.graph)
    compact(graph)
    (norm,) = (node for node in graph.graph if node.op_type == "LayerNormalization")
    assert norm.inputs[0].producer().op_type == "Reshape"


def test_float_layers_are_left_alone():
    graph = model("y = MatMul(x, table)")
    assert multiply_rows(graph.graph) == 0
    assert [node.op_type for node in graph.graph] == ["MatMul"]
