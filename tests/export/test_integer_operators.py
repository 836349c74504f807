"""Each reason for which an operator stays float, read back from a real session."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.helper import make_node

from compresslab.errors import ArtifactError
from compresslab.export.integer_operators import integer_operators
from compresslab.measure.measurement import IntegerOperators
from compresslab.measure.session import SessionOptions

RNG = np.random.default_rng(0)
CONSTANTS = {
    "s": np.float32(0.1), "z": np.uint8(128), "fs": np.full(16, 0.01, np.float32),
    "wi": RNG.integers(-127, 128, (16, 16, 1, 1)).astype(np.int8),
    "w": RNG.normal(size=(16, 16, 1, 1)).astype(np.float32), "gain": np.ones(4, np.float32),
}  # fmt: skip
SHAPE = ["batch", 16, 4, 4]


def qdq(source: str, to: str) -> list[onnx.NodeProto]:
    return [
        make_node("QuantizeLinear", [source, "s", "z"], [f"{to}_q"]),
        make_node("DequantizeLinear", [f"{to}_q", "s", "z"], [to]),
    ]


WEIGHTS = make_node("DequantizeLinear", ["wi", "fs"], ["wd"], axis=0)


def count(graph, nodes, tmp_path, options=None) -> IntegerOperators:
    used = {name for node in nodes for name in node.input}
    model = graph(nodes, {name: value for name, value in CONSTANTS.items() if name in used}, SHAPE, SHAPE)
    onnx.save(model, str(tmp_path / "model.onnx"))
    return integer_operators(tmp_path / "model.onnx", options or SessionOptions())


def quantized_block(result: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    return [*qdq("input", "x"), WEIGHTS, make_node("Conv", ["x", "wd"], ["c"], name="first"), *result]


def test_everything_runs_as_integers(graph, tmp_path):
    nodes = quantized_block([*qdq("c", "y"), make_node("Add", ["x", "y"], ["a"]), *qdq("a", "logits")])
    assert count(graph, nodes, tmp_path) == IntegerOperators(2, 2)


def test_a_float_model_has_nothing_eligible(graph, tmp_path):
    assert count(graph, [make_node("Conv", ["input", "w"], ["logits"])], tmp_path) == IntegerOperators(0, 0)


def test_a_layer_kept_in_float(graph, tmp_path):
    nodes = [make_node("Conv", ["input", "w"], ["c"], name="first"), *qdq("c", "logits")]
    assert count(graph, nodes, tmp_path).floating == ("first (Conv): its weights are float",)


def test_a_result_that_a_float_operator_reads(graph, tmp_path):
    nodes = quantized_block([make_node("Softplus", ["c"], ["p"]), *qdq("p", "logits")])
    assert count(graph, nodes, tmp_path).floating == ("first (Conv): its result goes to Softplus, which reads floats",)


def test_a_result_that_is_the_answer(graph, tmp_path):
    nodes = [*quantized_block([])[:-1], make_node("Conv", ["x", "wd"], ["logits"], name="first")]
    assert count(graph, nodes, tmp_path).floating == ("first (Conv): its result is the model's output, in float",)


def test_an_input_that_comes_from_a_float_operator(graph, tmp_path):
    nodes = quantized_block([*qdq("c", "y"), make_node("Softplus", ["x"], ["p"]),
                             make_node("Add", ["y", "p"], ["a"], name="sum"), *qdq("a", "logits")])  # fmt: skip
    found = count(graph, nodes, tmp_path)
    assert (found.integer, found.eligible) == (1, 2)
    assert found.floating == ("sum (Add): its input comes from Softplus in float",)


def test_the_session_decides(graph, tmp_path):
    """Without optimisation nothing is fused: counting Q/DQ pairs in the file would say otherwise."""
    found = count(graph, quantized_block(qdq("c", "logits")), tmp_path, SessionOptions(graph_optimization="disabled"))
    assert (found.integer, found.eligible) == (0, 1)
    assert found.floating[0].startswith("first (Conv): ONNX Runtime ")


def test_adding_a_constant_is_not_eligible(graph, tmp_path):
    nodes = quantized_block([*qdq("c", "y"), make_node("Add", ["y", "s"], ["a"]), *qdq("a", "logits")])
    assert count(graph, nodes, tmp_path).eligible == 1


@pytest.mark.parametrize(("normalized", "eligible"), [(True, 1), (False, 2)])
def test_a_sum_that_only_normalizations_read_is_not_eligible(graph, tmp_path, normalized, eligible):
    """The stream of residuals in a transformer; the same sum with a convolution to read it could be integer."""
    norm = make_node("LayerNormalization", ["a", "gain"], ["n"]) if normalized else make_node("Identity", ["a"], ["n"])
    nodes = [
        make_node("Softplus", ["input"], ["p"]), make_node("Softplus", ["p"], ["r"]),
        make_node("Add", ["p", "r"], ["a"], name="residual"), norm, *qdq("n", "x"), WEIGHTS,
        make_node("Conv", ["x", "wd"], ["c"]), *qdq("c", "logits"),
    ]  # fmt: skip
    found = count(graph, nodes, tmp_path)
    assert (found.integer, found.eligible) == (1, eligible)


def test_an_activation_between_integers_without_an_integer_kernel_is_named(graph, tmp_path):
    """It is not eligible, and costs two conversions beside itself: the report must not say that all is integer."""
    nodes = quantized_block([*qdq("c", "y"), make_node("HardSwish", ["y"], ["h"], name="n0"), *qdq("h", "logits")])
    found = count(graph, nodes, tmp_path)
    assert (found.integer, found.eligible) == (1, 1)
    reason = f"ONNX Runtime {onnxruntime.__version__} has no integer kernel for HardSwish"
    assert found.floating == (f"behind first (HardSwish): {reason}",)


def test_an_activation_beside_floats_interrupts_nothing(graph, tmp_path):
    nodes = quantized_block([*qdq("c", "y"), make_node("HardSwish", ["y"], ["logits"])])
    assert count(graph, nodes, tmp_path).floating == ()


def test_a_file_that_cannot_be_run(tmp_path):
    model = onnx.helper.make_model(onnx.helper.make_graph([make_node("QuantizeLinear", ["a"], ["b"])], "g", [], []))
    onnx.save(model, str(tmp_path / "model.onnx"))
    with pytest.raises(ArtifactError, match="cannot open it"):
        integer_operators(tmp_path / "model.onnx", SessionOptions())
