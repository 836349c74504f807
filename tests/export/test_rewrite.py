"""The rewritten graph has the same outputs, and the form that integer kernels want."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx.helper import make_node

from compresslab.export.rewrite import fold_units, halve_last, pad_few_outputs, pad_input_channels, pool_globally

RNG = np.random.default_rng(0)
QDQ = ("QuantizeLinear", "DequantizeLinear")
GRID = {"s": np.float32(0.05), "z": np.uint8(100)}


def run(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    # Unoptimised: what the graph says, whatever kernels there are.
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"input": images})[0]


def rewritten(model: onnx.ModelProto, rule) -> onnx.ModelProto:
    typed = onnx.shape_inference.infer_shapes(model, data_prop=True)
    made = ir.from_proto(typed)
    rule(made.graph)
    result = ir.to_proto(made)
    onnx.checker.check_model(result, full_check=True)
    return result


def types(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


@pytest.mark.parametrize("axes", [[2, 3], [-1, -2]])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_a_mean_over_positions_becomes_a_pool(axes, keepdims, graph):
    model = graph(
        [make_node("Relu", ["input"], ["r"]), make_node("ReduceMean", ["r", "axes"], ["logits"], keepdims=keepdims)],
        {"axes": np.array(axes)}, ["batch", 3, 4, 5], ["batch", 3, 1, 1] if keepdims else ["batch", 3],
    )  # fmt: skip
    found = rewritten(model, pool_globally)
    assert types(found) == ["Relu", "GlobalAveragePool"] + (["Flatten"] if not keepdims else [])
    images = RNG.normal(size=(2, 3, 4, 5)).astype(np.float32)
    np.testing.assert_allclose(run(found, images), run(model, images), rtol=1e-5, atol=1e-6)


def test_the_pool_stands_directly_between_its_quantizers(graph):
    model = graph(
        [
            make_node("QuantizeLinear", ["input", "s", "z"], ["q"]),
            make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
            make_node("ReduceMean", ["d", "axes"], ["m"], keepdims=0),
            make_node("QuantizeLinear", ["m", "s", "z"], ["mq"]),
            make_node("DequantizeLinear", ["mq", "s", "z"], ["logits"]),
        ],
        {**GRID, "axes": np.array([2, 3])}, ["batch", 3, 4, 5], ["batch", 3],
    )  # fmt: skip
    found = rewritten(model, pool_globally)
    assert types(found) == [*QDQ, "GlobalAveragePool", "QuantizeLinear", "Flatten", "DequantizeLinear"]
    images = RNG.normal(size=(2, 3, 4, 5)).astype(np.float32)
    np.testing.assert_allclose(run(found, images), run(model, images), atol=1e-6)


@pytest.mark.parametrize("axes", [[1], [1, 2], [1, 2, 3], [3]])
def test_other_means_stay(axes, graph):
    model = graph(
        [make_node("ReduceMean", ["input", "axes"], ["logits"], keepdims=1)], {"axes": np.array(axes)},
        ["batch", 3, 4, 5], ["batch", *(1 if axis in axes else size for axis, size in ((1, 3), (2, 4), (3, 5)))],
    )  # fmt: skip
    assert types(rewritten(model, pool_globally)) == ["ReduceMean"]


def stem(graph, channels: int, outputs: int, quantized_input: bool = True, group: int = 1) -> onnx.ModelProto:
    """A quantized input and two convolutions that read it."""
    quantize = [
        make_node("QuantizeLinear", ["input", "s", "z"], ["q"]),
        make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
    ]
    constants = dict(GRID)
    nodes = quantize if quantized_input else [make_node("Identity", ["input"], ["d"])]
    for name in "vw":
        constants[name] = RNG.integers(-127, 128, (outputs, channels // group, 3, 3)).astype(np.int8)
        constants[f"{name}s"] = np.full(outputs, 0.01, np.float32)
        nodes += [
            make_node("DequantizeLinear", [name, f"{name}s"], [f"{name}d"], axis=0),
            make_node("Conv", ["d", f"{name}d"], [f"{name}c"], pads=[1, 1, 1, 1], group=group),
        ]
    if not quantized_input:
        constants = {name: value for name, value in constants.items() if name not in GRID}
    nodes.append(make_node("Add", ["vc", "wc"], ["logits"]))
    return graph(nodes, constants, ["batch", channels, 6, 6], ["batch", outputs, 6, 6])


@pytest.mark.parametrize("channels", [1, 3, 6])
def test_input_channels_are_padded_to_fours(channels, graph):
    model = stem(graph, channels, 16)
    found = rewritten(model, pad_input_channels)
    assert types(found)[:3] == ["QuantizeLinear", "Pad", "DequantizeLinear"]
    shapes = {tensor.name: tuple(tensor.dims) for tensor in found.graph.initializer}
    assert shapes["v"] == shapes["w"] == (16, {1: 4, 3: 4, 6: 8}[channels], 3, 3)
    images = RNG.normal(size=(2, channels, 6, 6)).astype(np.float32)
    np.testing.assert_allclose(run(found, images), run(model, images), atol=1e-5)


@pytest.mark.parametrize(
    "arguments",
    [
        {"channels": 4, "outputs": 16},  # fits already
        {"channels": 1, "outputs": 8},  # too few outputs for the fast kernel: padding would cost time
        {"channels": 3, "outputs": 18, "group": 3},  # each group reads its own channels
        {"channels": 1, "outputs": 16, "quantized_input": False},  # a float convolution
    ],
)
def test_inputs_that_would_gain_nothing_are_left_alone(arguments, graph):
    model = stem(graph, **arguments)
    assert types(rewritten(model, pad_input_channels)) == types(model)


def narrow(graph, outputs: int, *, seen: str = "", group: int = 1, quantized: bool = True) -> onnx.ModelProto:
    """Two quantized convolutions, 4 -> `outputs` -> 6; what the first gives may be `seen` by an addition as well."""
    constants = dict(GRID)
    nodes, value = [], "input"
    for i, (inputs, width) in enumerate(((4, outputs), (outputs, 6))):
        grouped = group if i else 1
        weights = RNG.integers(-127, 128, (width, inputs // grouped, 3, 3)).astype(np.int8)
        constants |= {
            f"w{i}": weights,
            f"s{i}": np.full(width, 0.01, np.float32),
            f"b{i}": RNG.normal(size=width).astype(np.float32),
        }
        if quantized or i:
            nodes += [
                make_node("QuantizeLinear", [value, "s", "z"], [f"q{i}"]),
                make_node("DequantizeLinear", [f"q{i}", "s", "z"], [f"d{i}"]),
            ]
            value = f"d{i}"
        nodes += [
            make_node("DequantizeLinear", [f"w{i}", f"s{i}"], [f"v{i}"], axis=0),
            make_node("Conv", [value, f"v{i}", f"b{i}"], [f"c{i}"], pads=[1, 1, 1, 1], group=grouped),
        ]
        value = f"c{i}"
    if seen:
        nodes += [make_node("ReduceMean", [seen, "axes"], ["m"], keepdims=1)]
        constants["axes"] = np.array([1, 2, 3])
    nodes += [make_node("Add", ["c1", "m" if seen else "zero"], ["logits"])]
    if not seen:
        constants["zero"] = np.float32(0)
    return graph(nodes, constants, ["batch", 4, 6, 6], ["batch", 6, 6, 6])


@pytest.mark.parametrize("outputs", [4, 8, 12])
def test_few_outputs_are_made_as_many_as_the_kernel_writes(outputs, graph):
    model = narrow(graph, outputs)
    found = rewritten(model, pad_few_outputs)
    shapes = {tensor.name: tuple(tensor.dims) for tensor in found.graph.initializer}
    assert (shapes["w0"], shapes["w1"]) == ((16, 4, 3, 3), (6, 16, 3, 3)), "the last is the answer's, and stays"
    assert (shapes["s0"], shapes["b0"]) == ((16,), (16,))
    images = 4 * RNG.normal(size=(2, 4, 6, 6)).astype(np.float32)
    np.testing.assert_allclose(run(found, images), run(model, images), rtol=1e-5, atol=1e-4)
    assert np.abs(run(model, images)).max() > 1


@pytest.mark.parametrize(
    "arguments",
    [
        {"outputs": 16},  # as many as are written anyway
        {"outputs": 8, "seen": "c0"},  # a mean over channels would change with their number
        {"outputs": 8, "seen": "d1"},  # the same behind the quantizer
        {"outputs": 6, "group": 2},  # each group reads its own channels
        {"outputs": 8, "quantized": False},  # a float convolution has another kernel
    ],
)
def test_outputs_that_others_see_or_that_gain_nothing_stay(arguments, graph):
    model = narrow(graph, **arguments)
    found = rewritten(model, pad_few_outputs)
    sizes = [{tensor.name: tuple(tensor.dims) for tensor in one.graph.initializer} for one in (model, found)]
    assert sizes[0] == sizes[1]


def scaled(graph, after: list[onnx.NodeProto], factor=2.5, offset=-3.0, **attributes) -> onnx.ModelProto:
    """A Gemm from 3 to 2, and what follows it; `u` and `v` are the factor and the offset."""
    constants = {
        "w": RNG.normal(size=(2, 3)).astype(np.float32), "b": RNG.normal(size=2).astype(np.float32),
        "u": np.float32(factor), "v": np.float32(offset),
    }  # fmt: skip
    nodes = [make_node("Gemm", ["input", "w", "b"], ["g"], transB=1, **attributes), *after]
    used = {name for node in nodes for name in node.input}
    return graph(nodes, {n: value for n, value in constants.items() if n in used}, ["batch", 3], ["batch", 2])


MUL, ADD = make_node("Mul", ["g", "u"], ["m"]), make_node("Add", ["m", "v"], ["logits"])


@pytest.mark.parametrize(
    ("after", "left"),
    [
        ([MUL, ADD], ["Gemm"]),
        ([make_node("Mul", ["u", "g"], ["m"]), ADD], ["Gemm"]),
        ([make_node("Mul", ["g", "u"], ["logits"])], ["Gemm"]),
        ([MUL, make_node("Relu", ["m"], ["logits"])], ["Gemm", "Relu"]),
    ],
)
def test_units_become_weights_and_bias(after, left, graph):
    model = scaled(graph, after, alpha=1.0, beta=1.0)
    found = rewritten(model, fold_units)
    assert types(found) == left
    assert [output.name for output in found.graph.output] == ["logits"]
    rows = RNG.normal(size=(4, 3)).astype(np.float32)
    np.testing.assert_allclose(run(found, rows), run(model, rows), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("after", "attributes"),
    [
        ([MUL, ADD], {"alpha": 2.0}),  # the factor is of the product alone
        ([MUL, make_node("Add", ["m", "g"], ["logits"])], {}),  # the raw product is read elsewhere
        ([MUL, make_node("Add", ["m", "b"], ["logits"])], {}),  # the bias is, and the offset is no number
    ],
)
def test_a_gemm_that_others_depend_on_keeps_its_weights(after, attributes, graph):
    model = scaled(graph, after, **attributes)
    assert types(rewritten(model, fold_units)) == ["Gemm", "Mul", "Add"]


def gelu(graph, *, half=0.5, last=("input", "h"), reads=()):
    """As torch's exporter writes it; `reads` are nodes that read what is inside too."""
    nodes = [
        make_node("Div", ["input", "root"], ["d"]),
        make_node("Erf", ["d"], ["e"]),
        make_node("Add", ["e", "one"], ["s"]),
        make_node("Mul", ["half", "s"], ["h"]),
        *reads,
        make_node("Mul", list(last), ["logits"]),
    ]
    constants = {"root": np.float32(2**0.5), "one": np.float32(1), "half": np.float32(half)}
    return graph(nodes, constants, ["batch", 8], ["batch", 8])


@pytest.mark.parametrize("last", [("input", "h"), ("h", "input")])
def test_a_gelu_is_written_as_onnxruntime_fuses_it(last, graph, tmp_path):
    model = gelu(graph, last=last)
    found = rewritten(model, halve_last)
    x = RNG.normal(size=(16, 8)).astype(np.float32)
    np.testing.assert_allclose(run(found, x), run(model, x), rtol=1e-6, atol=1e-7)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(found.SerializeToString(), options, providers=["CPUExecutionProvider"])
    assert types(onnx.load(str(tmp_path / "optimized.onnx"))) == ["Gelu"]


def edges(model):
    return [(node.op_type, list(node.input), list(node.output)) for node in model.graph.node]


def test_what_is_no_gelu_or_is_read_inside_stays(graph):
    for model in (
        gelu(graph, half=0.25),
        gelu(graph, last=("both", "h"), reads=[make_node("Add", ["input", "h"], ["both"])]),
        gelu(graph, last=("later", "h"), reads=[make_node("Neg", ["input"], ["later"])]),
    ):
        assert edges(rewritten(model, halve_last)) == edges(model)
