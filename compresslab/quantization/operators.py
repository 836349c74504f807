"""What each node of a traced network is to a quantizer: the table that decides where Q/DQ pairs go.

A new operator with an integer kernel is one more entry here.
"""

from __future__ import annotations

import operator
from typing import Literal

import torch
from torch import fx, nn
from torch.nn import functional

from compresslab.quantization.tracing import is_float_tensor, shape_of, submodule

Role = Literal["layer", "add", "average", "clamp", "same_grid", "float"]
"""`layer`: weights against an activation. `add`: two activations. `average`: a mean over positions. `clamp`: fused into
what is before it. `same_grid`: moves or picks values, so the result lies on the argument's grid. `float`: the rest."""

_ADDS = (operator.add, torch.add, "add")
_PRODUCTS = (operator.mul, torch.mul, "mul")
_AVERAGE_MODULES = (nn.AvgPool2d, nn.AdaptiveAvgPool2d)
_AVERAGES = (functional.avg_pool2d, functional.adaptive_avg_pool2d)
_MEANS = (torch.mean, "mean")
_SAME_GRID_MODULES = (nn.MaxPool2d, nn.Flatten, nn.Dropout, nn.Dropout2d)
_SAME_GRID = (
    functional.max_pool2d, torch.flatten, torch.reshape, torch.squeeze, torch.unsqueeze,
    "flatten", "reshape", "view", "squeeze", "unsqueeze", "contiguous",
)  # fmt: skip
_RELUS = (functional.relu, torch.relu, "relu", "relu_")


def role(graph: fx.GraphModule, node: fx.Node) -> Role:
    """What the node is to a quantizer."""
    if not is_float_tensor(node):
        return "float"
    module = submodule(graph, node)
    if is_layer(module):
        return "layer"
    if isinstance(module, _AVERAGE_MODULES) or _calls(node, _AVERAGES) or _is_spatial_mean(node):
        return "average"
    if _calls(node, _ADDS) and len([arg for arg in node.args if is_activation(arg)]) == 2:
        return "add"
    if isinstance(module, _SAME_GRID_MODULES) or _calls(node, _SAME_GRID):
        return "same_grid"
    return "float" if clamp_range(graph, node) is None else "clamp"


def is_activation(value: object) -> bool:
    """Whether the value is computed from the input: a float tensor that is not a parameter."""
    return isinstance(value, fx.Node) and value.op != "get_attr" and is_float_tensor(value)


def is_layer(module: object) -> bool:
    """Whether the module has weights that an integer kernel can take: exactly these types, padded with zeros."""
    # A subclass may compute something else.
    return type(module) is nn.Linear or (type(module) in (nn.Conv1d, nn.Conv2d) and module.padding_mode == "zeros")  # type: ignore[attr-defined]


def clamp_range(graph: fx.GraphModule, node: fx.Node) -> tuple[float, float] | None:
    """The bounds of a ReLU, ReLU6 or hard tanh, else None."""
    module = submodule(graph, node)
    if isinstance(module, nn.ReLU) or _calls(node, _RELUS):
        return 0.0, float("inf")
    if isinstance(module, nn.Hardtanh):  # nn.ReLU6 is one
        return float(module.min_val), float(module.max_val)
    if _calls(node, (functional.relu6,)):
        return 0.0, 6.0
    if _calls(node, (functional.hardtanh,)):
        bounds = {"min_val": -1.0, "max_val": 1.0} | dict(zip(("min_val", "max_val"), node.args[1:3], strict=False))
        bounds |= {key: value for key, value in node.kwargs.items() if key in bounds}
        return float(bounds["min_val"]), float(bounds["max_val"])  # type: ignore[arg-type]
    return None


def rescaling(node: fx.Node) -> tuple[float, float] | None:
    """The numbers `(factor, offset)` by which the node turns one activation into another of other units, else None.

    `x.float()` of a float is one too: it is there for what is trained under autocast.
    """
    if _calls(node, ("float",)) and is_activation(node.args[0]):
        return 1.0, 0.0
    numbers = [value for value in node.args if isinstance(value, int | float)]
    others = [value for value in node.args if not isinstance(value, int | float)]
    if not _calls(node, (*_ADDS, *_PRODUCTS)) or node.kwargs or (len(numbers), len(others)) != (1, 1):
        return None
    if not is_activation(others[0]):
        return None
    return (float(numbers[0]), 0.0) if _calls(node, _PRODUCTS) else (1.0, float(numbers[0]))


def _calls(node: fx.Node, targets: tuple[object, ...]) -> bool:
    """Whether the node calls one of these functions or methods (a module may be *named* `add`)."""
    return node.op in ("call_function", "call_method") and node.target in targets


def _is_spatial_mean(node: fx.Node) -> bool:
    """Whether the node averages height and width away: the mean that has an integer kernel, as a global pool."""
    source = node.args[0] if node.args else None
    if not (_calls(node, _MEANS) and isinstance(source, fx.Node) and is_float_tensor(source)):
        return False
    dims = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
    rank = len(shape_of(source))
    return rank == 4 and isinstance(dims, tuple | list) and sorted(int(dim) % rank for dim in dims) == [2, 3]
