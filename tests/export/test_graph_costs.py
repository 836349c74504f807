"""Against numbers worked out by hand."""

import numpy as np
import pytest
from onnx.helper import make_node

from compresslab.errors import ArtifactError
from compresslab.export.graph_costs import Costs, graph_costs


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def test_a_convolution(graph):
    """5 outputs of 3x3x2 weights on 4x4 positions (stride 2 of 8x8), and 5 biases; whatever batch was exported."""
    model = graph(
        [make_node("Conv", ["input", "w", "b"], ["logits"], pads=[1, 1, 1, 1], strides=[2, 2])],
        {"w": zeros(5, 2, 3, 3), "b": zeros(5)}, ["batch", 2, 8, 8], ["batch", 5, 4, 4],
    )  # fmt: skip
    assert graph_costs(model) == Costs(params=5 * 2 * 9 + 5, macs=5 * 2 * 9 * 4 * 4)


def test_a_depthwise_convolution(graph):
    model = graph(
        [make_node("Conv", ["input", "w"], ["logits"], group=6)],
        {"w": zeros(6, 1, 3, 3)}, [7, 6, 5, 5], [7, 6, 3, 3],
    )  # fmt: skip
    assert graph_costs(model) == Costs(params=54, macs=6 * 9 * 3 * 3)


def test_a_gemm_and_a_matrix_product(graph):
    model = graph(
        [
            make_node("Gemm", ["input", "w", "b"], ["hidden"], transB=1),
            make_node("Relu", ["hidden"], ["positive"]),
            make_node("MatMul", ["positive", "v"], ["logits"]),
        ],
        {"w": zeros(7, 4), "b": zeros(7), "v": zeros(7, 3)}, ["batch", 4], ["batch", 3],
    )  # fmt: skip
    assert graph_costs(model) == Costs(params=28 + 7 + 21, macs=28 + 21)


def test_quantized_weights_count_and_their_scales_and_shapes_do_not(graph):
    model = graph(
        [
            make_node("QuantizeLinear", ["input", "s", "z"], ["q"]),
            make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
            make_node("DequantizeLinear", ["w", "ws"], ["wd"], axis=0),
            make_node("DequantizeLinear", ["b", "ws"], ["bd"], axis=0),
            make_node("Conv", ["d", "wd", "bd"], ["c"]),
            make_node("Reshape", ["c", "shape"], ["logits"]),
        ],
        {
            "s": np.float32(0.1), "z": np.uint8(3), "w": np.zeros((5, 2, 1, 1), np.int8), "ws": np.ones(5, np.float32),
            "b": np.zeros(5, np.int32), "shape": np.array([-1, 45]),
        },
        ["batch", 2, 3, 3], ["batch", 45],
    )  # fmt: skip
    assert graph_costs(model) == Costs(params=15, macs=10 * 9)


def test_an_open_dimension_is_told(graph):
    model = graph(
        [make_node("Conv", ["input", "w"], ["logits"], name="first")],
        {"w": zeros(5, 2, 3, 3)}, ["batch", 2, "height", 8], ["batch", 5, "h", 6],
    )  # fmt: skip
    with pytest.raises(ArtifactError, match="Conv first: its shape cannot be inferred"):
        graph_costs(model)
