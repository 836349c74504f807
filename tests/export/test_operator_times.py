"""What operators take, by the names they have in the file, whatever ONNX Runtime makes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.helper import make_node

from compresslab.export.integer_operators import faithful, integer_operators
from compresslab.export.operator_times import operator_times, with_times
from compresslab.measure.session import SessionOptions

RNG = np.random.default_rng(0)
SHAPE = ["batch", 16, 12, 12]
FEED = {"input": RNG.normal(size=(4, 16, 12, 12)).astype(np.float32)}
CONSTANTS = {
    "s": np.float32(0.1), "z": np.uint8(128), "fs": np.full(16, 0.01, np.float32),
    "wi": RNG.integers(-127, 128, (16, 16, 3, 3)).astype(np.int8),
    "w": RNG.normal(size=(16, 16, 3, 3)).astype(np.float32),
}  # fmt: skip
KEPT = SessionOptions(disabled_optimizers=("WeightBiasQuantization",))


def qdq(source: str, to: str) -> list[onnx.NodeProto]:
    return [
        make_node("QuantizeLinear", [source, "s", "z"], [f"{to}_q"]),
        make_node("DequantizeLinear", [f"{to}_q", "s", "z"], [to]),
    ]


@pytest.fixture
def mixed(graph, tmp_path) -> Path:
    """A quantized convolution, and one that keeps its float weights between quantized values."""
    nodes = [
        *qdq("input", "x"), make_node("DequantizeLinear", ["wi", "fs"], ["wd"], axis=0),
        make_node("Conv", ["x", "wd"], ["c"], name="first", pads=[1, 1, 1, 1]), *qdq("c", "y"),
        make_node("Conv", ["y", "w"], ["d"], name="second", pads=[1, 1, 1, 1]), *qdq("d", "logits"),
    ]  # fmt: skip
    onnx.save(graph(nodes, CONSTANTS, SHAPE, SHAPE), str(tmp_path / "mixed.onnx"))
    return tmp_path / "mixed.onnx"


def test_float_weights_between_quantized_values_stay_float_only_if_told(mixed: Path) -> None:
    """ONNX Runtime rounds them for all channels at once by itself; a newer one that does not needs no option."""
    assert integer_operators(mixed, SessionOptions()).integer == 2
    assert faithful(mixed, SessionOptions()) == KEPT
    assert faithful(mixed, KEPT) == KEPT
    assert integer_operators(mixed, KEPT).floating == ("second (Conv): its weights are float",)


def test_nothing_is_switched_off_for_a_graph_that_needs_it_not(graph, tmp_path) -> None:
    nodes = [make_node("Conv", ["input", "w"], ["logits"])]
    onnx.save(graph(nodes, {"w": CONSTANTS["w"]}, SHAPE, ["batch", 16, 10, 10]), str(tmp_path / "float.onnx"))
    assert faithful(tmp_path / "float.onnx", SessionOptions()) == SessionOptions()


def test_the_time_of_an_operator_is_found_under_its_name(mixed: Path) -> None:
    """The float one is blocked into another layout, and then called otherwise."""
    first, second = operator_times(mixed, KEPT, FEED).operators
    assert (first.name, first.integer, first.reason) == ("first", True, "")
    assert (second.name, second.integer, second.reason) == ("second", False, "its weights are float")
    assert min(first.microseconds, second.microseconds) > 0


def test_what_is_left_in_float_has_its_share_of_the_time(mixed: Path) -> None:
    found = with_times(integer_operators(mixed, KEPT), mixed, KEPT, FEED, threads=1)
    (left,) = found.in_float
    assert (left.name, left.kind) == ("second", "Conv")
    assert 0 < left.share <= found.time["float"] < 1
    assert sum(found.time.values()) == pytest.approx(1, abs=0.001)


def test_of_a_float_graph_there_is_nothing_to_tell(mixed: Path) -> None:
    counted = type(integer_operators(mixed, KEPT))(0, 0)
    assert with_times(counted, Path("nowhere"), KEPT, FEED, threads=1) is counted
