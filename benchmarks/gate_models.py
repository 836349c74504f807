"""The models that the gate is tried on: a small convolutional network, and the same with real extra operators.

Slowed models have `extra` more 1x1 convolutions on a branch, whose result is added to the pooled features at a
thousandth, so that ONNX Runtime must compute them. In the model with a slow tail the branch stands in an `If`, which
one input in five takes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

SIDE = 56
_CHANNELS = ((1, 24, 1), (24, 48, 2), (48, 48, 1), (48, 64, 2), (64, 64, 1))
_FEATURES = 64
_CLASSES = 10
# Of standard normal inputs, one in five begins with a larger value.
_TAIL_ABOVE = 0.84
_OPSET = 18


def write_model(path: Path, extra: int = 0, tail: int = 0) -> Path:
    """Writes the network.

    Args:
        path: Where to.
        extra: Convolutions that every call does more.
        tail: Convolutions that only the calls of the tail do more.
    """
    weights = _Weights()
    nodes = [*_body(weights), helper.make_node("GlobalAveragePool", ["features"], ["pooled"])]
    if extra:
        nodes += _added(weights, "slowed", extra)
    elif tail:
        nodes += _tail(weights, tail)
    nodes += [
        helper.make_node("Flatten", ["slowed" if extra or tail else "pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", weights.add("head", (_FEATURES, _CLASSES))], ["output"]),
    ]
    graph = helper.make_graph(
        nodes,
        "gate",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 1, SIDE, SIDE])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", _CLASSES])],
        weights.tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=10)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


class _Weights:
    """Initializers, the same every time."""

    def __init__(self) -> None:
        self.tensors: list[TensorProto] = []
        self._rng = np.random.default_rng(0)

    def add(self, name: str, shape: tuple[int, ...]) -> str:
        spread = 1.0 / np.sqrt(np.prod(shape[1:]))
        self.tensors.append(numpy_helper.from_array(self._rng.normal(0.0, spread, shape).astype(np.float32), name))
        return name

    def constant(self, name: str, value: np.ndarray) -> str:
        self.tensors.append(numpy_helper.from_array(value, name))
        return name


def _body(weights: _Weights) -> list[NodeProto]:
    nodes, last = [], "input"
    for index, (inputs, outputs, stride) in enumerate(_CHANNELS):
        weight = weights.add(f"w{index}", (outputs, inputs, 3, 3))
        nodes.append(
            helper.make_node("Conv", [last, weight], [f"conv{index}"], pads=[1, 1, 1, 1], strides=[stride, stride])
        )
        last = "features" if index == len(_CHANNELS) - 1 else f"relu{index}"
        nodes.append(helper.make_node("Relu", [f"conv{index}"], [last]))
    return nodes


def _added(weights: _Weights, target: str, count: int) -> list[NodeProto]:
    """The pooled features and, at a thousandth, what `count` convolutions in a row make of the features."""
    nodes = [helper.make_node("AveragePool", ["features"], ["more0"], kernel_shape=[2, 2], strides=[2, 2])]
    for index in range(count):
        weight = weights.add(f"extra{index}", (_FEATURES, _FEATURES, 1, 1))
        nodes.append(helper.make_node("Conv", [f"more{index}", weight], [f"more{index + 1}"]))
    small = weights.constant("small", np.array([0.001], np.float32))
    return [
        *nodes,
        helper.make_node("GlobalAveragePool", [f"more{count}"], ["branch"]),
        helper.make_node("Mul", ["branch", small], ["scaled"]),
        helper.make_node("Add", ["pooled", "scaled"], [target]),
    ]


def _tail(weights: _Weights, count: int) -> list[NodeProto]:
    def branch(name: str, nodes: list[NodeProto]) -> onnx.GraphProto:
        output = helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", _FEATURES, 1, 1])
        return helper.make_graph(nodes, name, [], [output])

    flat = weights.constant("flat_shape", np.array([-1], np.int64))
    first = weights.constant("first", np.array([0], np.int64))
    second = weights.constant("second", np.array([1], np.int64))
    bound = weights.constant("bound", np.array([_TAIL_ABOVE], np.float32))
    return [
        helper.make_node("Reshape", ["input", flat], ["pixels"]),
        helper.make_node("Slice", ["pixels", first, second], ["pixel"]),
        helper.make_node("Greater", ["pixel", bound], ["is_tail"]),
        helper.make_node(
            "If",
            ["is_tail"],
            ["slowed"],
            then_branch=branch("long", _added(weights, "long", count)),
            else_branch=branch("short", [helper.make_node("Identity", ["pooled"], ["short"])]),
        ),
    ]
