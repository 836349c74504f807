"""What does not fit exactly is refused, and what fits arrives unchanged."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compresslab.errors import DataError
from compresslab.measure.artifact import GraphInfo, TensorInfo
from compresslab.serving.incoming import feed, outputs_wanted
from tests.serving.tensors import Tensor


def graph(dtype: str = "float32", batch: int | str = "batch") -> GraphInfo:
    return GraphInfo(
        file="model.onnx",
        sha256="0" * 64,
        bytes=1,
        opset=18,
        inputs=(TensorInfo(name="x", dtype=dtype, shape=(batch, 2)),),
        outputs=(TensorInfo(name="y", dtype="float32", shape=(batch, 3)),),
    )


PAIR = GraphInfo(
    file="model.onnx",
    sha256="0" * 64,
    bytes=1,
    opset=18,
    inputs=tuple(TensorInfo(name=name, dtype="int64", shape=("n", "length")) for name in ("tokens", "mask")),
    outputs=(TensorInfo(name="y", dtype="float32", shape=("n", 3)),),
)


@pytest.mark.parametrize(
    "data", [[1, 2.5, -3e4, 0], [[1, 2.5], [-3e4, 0]], np.array([1, 2.5, -3e4, 0], "<f4").tobytes()]
)
def test_lists_flat_and_nested_and_bytes_arrive_the_same(data: Any) -> None:
    fed = feed([Tensor("x", "FP32", [2, 2], data)], graph(), 4)
    assert fed["x"].dtype == np.float32
    np.testing.assert_array_equal(fed["x"], [[1, 2.5], [-3e4, 0]])


@pytest.mark.parametrize(
    ("dtype", "datatype", "data"),
    [
        ("uint8", "UINT8", [0, 255]),
        ("int8", "INT8", [-128, 127]),
        ("int64", "INT64", [-(2**63), 2**63 - 1]),
        ("bool", "BOOL", [True, False]),
        ("float64", "FP64", [1e300, 5]),
        ("float16", "FP16", [1, -2]),
    ],
)
def test_the_ends_of_every_type_are_taken(dtype: str, datatype: str, data: list[Any]) -> None:
    fed = feed([Tensor("x", datatype, [1, 2], data)], graph(dtype), 4)
    assert fed["x"].dtype == dtype
    assert fed["x"].ravel().tolist() == data


@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        (Tensor("y", "FP32", [1, 2], [0, 0]), r"no input `y`; it takes `x` FP32 \['batch', 2\]"),
        (Tensor("x", "FP64", [1, 2], [0, 0]), "`x` must be FP32, but got FP64"),
        (Tensor("x", "FP32", [2], [0, 0]), r"must have the shape \[batch, 2\], but got \[2\]"),
        (Tensor("x", "FP32", [1, 3], [0, 0, 0]), r"but got \[1, 3\]"),
        (Tensor("x", "FP32", [0, 2], []), r"but got \[0, 2\]"),
        (Tensor("x", "FP32", [-1, 2], [0, 0]), r"but got \[-1, 2\]"),
        (Tensor("x", "FP32", [5, 2], [0] * 10), "has 5 rows; at most 4 are taken"),
        (Tensor("x", "FP32", [1 << 62, 2], [0, 0]), "rows; at most 4 are taken"),
        (Tensor("x", "FP32", [1, 2], [0]), "must have 2 values, but got 1"),
        (Tensor("x", "FP32", [1, 2], [0, 0, 0]), "must have 2 values, but got 3"),
        (Tensor("x", "FP32", [1, 2], [[0], [0]]), "in one list or nested as"),
        (Tensor("x", "FP32", [1, 2], [[0, 1], [0]]), "not a regular list of numbers"),
        (Tensor("x", "FP32", [1, 2], ["0", "1"]), "but got text"),
        (Tensor("x", "FP32", [1, 2], [True, False]), "but got true or false"),
        (Tensor("x", "FP32", [1, 2], [None, 1]), "but got other things"),
        (Tensor("x", "FP32", [1, 2], [{}, 1]), "but got other things"),
        (Tensor("x", "FP32", [1, 2], "01"), "must be a list of numbers"),
        (Tensor("x", "FP32", [1, 2], {"0": 1}), "must be a list of numbers"),
        (Tensor("x", "FP32", [1, 2], [1e39, 0]), "a number that float32 cannot hold"),
        (Tensor("x", "FP32", [1, 2], [float("nan"), 0]), "NaN or infinity"),
        (Tensor("x", "FP32", [1, 2], np.array([np.inf, 0], "<f4").tobytes()), "NaN or infinity"),
        (Tensor("x", "FP32", [1, 2], b"\0" * 7), "must have 8 bytes, but got 7"),
    ],
)
def test_what_does_not_fit_is_refused_and_told(tensor: Tensor, said: str) -> None:
    with pytest.raises(DataError, match=said):
        feed([tensor], graph(), 4)


@pytest.mark.parametrize("data", [[256, 0], [-1, 0], [1 << 70, 0], [0.5, 0]])
def test_a_whole_number_that_is_too_large_is_not_wrapped_around(data: list[Any]) -> None:
    with pytest.raises(DataError, match=r"cannot hold|must be numbers for uint8"):
        feed([Tensor("x", "UINT8", [1, 2], data)], graph("uint8"), 4)


def test_every_input_is_there_once() -> None:
    tokens = Tensor("tokens", "INT64", [1, 3], [1, 2, 3])
    mask = Tensor("mask", "INT64", [1, 3], [1, 1, 1])
    assert set(feed([mask, tokens], PAIR, 4)) == {"tokens", "mask"}
    with pytest.raises(DataError, match="`mask` is there 0 times"):
        feed([tokens], PAIR, 4)
    with pytest.raises(DataError, match="`tokens` is there 2 times"):
        feed([tokens, mask, tokens], PAIR, 4)
    with pytest.raises(DataError, match="must have the same first axis"):
        feed([tokens, Tensor("mask", "INT64", [2, 3], [1] * 6)], PAIR, 4)


def test_a_fixed_batch_is_the_only_one() -> None:
    assert feed([Tensor("x", "FP32", [8, 2], [0] * 16)], graph(batch=8), 4)["x"].shape == (8, 2)
    with pytest.raises(DataError, match=r"must have the shape \[8, 2\]"):
        feed([Tensor("x", "FP32", [1, 2], [0, 0])], graph(batch=8), 4)


def test_outputs_by_name() -> None:
    assert outputs_wanted([], graph()) == ["y"]
    assert outputs_wanted(["y", "y"], graph()) == ["y"]
    with pytest.raises(DataError, match="no output `z`; it gives y"):
        outputs_wanted(["z"], graph())


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(data=_JSON | st.binary(max_size=20), shape=st.lists(st.integers(), max_size=4), name=st.sampled_from(["x", "z"]))
def test_whatever_comes_is_fed_or_refused(data: Any, shape: list[int], name: str) -> None:
    """Never another error: that would be the server's, not the client's."""
    try:
        fed = feed([Tensor(name, "FP32", shape, data)], graph(), 4)
    except DataError:
        return
    assert fed["x"].shape == tuple(shape)
    assert np.isfinite(fed["x"]).all()
