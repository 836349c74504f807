"""What each node of a traced network is to a quantizer: the table that decides where Q/DQ pairs go.

A new operator with an integer kernel is one more entry here. Operators go by their names, which torch gives alike to
functions, methods and ATen calls: `torch.add`, `x.add_`, `operator.iadd` and `aten.add.Tensor` are one.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import fx, nn

from compresslab.quantization.tracing import is_float_tensor, shape_of, submodule

Role = Literal["layer", "add", "product", "concat", "matmul", "average", "clamp", "same_grid", "float"]
"""`layer`: weights against an activation. `add`, `matmul`: two activations; `product`: two feature maps, as where a
squeeze-excite gate is applied. `concat`: several, side by side. `average`: a mean over positions. `clamp`: fused into
what is before it. `same_grid`: moves or picks values, so the result lies on the argument's grid. `float`: the rest."""

_AVERAGE_MODULES = (nn.AvgPool2d, nn.AdaptiveAvgPool2d)
_SAME_GRID_MODULES = (nn.MaxPool2d, nn.Flatten, nn.Dropout, nn.Dropout2d)
_AVERAGES = ("avg_pool2d", "adaptive_avg_pool2d")
_CONCATENATIONS = ("cat", "concat", "concatenate")
_MATRIX_PRODUCTS = ("matmul", "bmm")
_SAME_GRID = (
    "max_pool2d", "flatten", "reshape", "view", "squeeze", "unsqueeze", "contiguous", "transpose", "permute", "select",
    "slice", "getitem", "expand",
)  # fmt: skip


def role(graph: fx.GraphModule, node: fx.Node) -> Role:
    """What the node is to a quantizer."""
    if not is_float_tensor(node):
        return "float"
    module = submodule(graph, node)
    if is_layer(module):
        return "layer"
    if isinstance(module, _AVERAGE_MODULES) or _calls(node, _AVERAGES) or _is_spatial_mean(node):
        return "average"
    if _calls(node, _CONCATENATIONS):
        return "concat" if all(is_activation(part) for part in node.args[0]) else "float"  # type: ignore[union-attr]
    if _takes_two(node):
        if _calls(node, ("add",)):
            return "add"
        if _calls(node, _MATRIX_PRODUCTS):
            return "matmul"
        if _calls(node, ("mul",)) and len(shape_of(node)) == 4:
            return "product"
    if isinstance(module, _SAME_GRID_MODULES) or (_calls(node, _SAME_GRID) and is_activation(node.args[0])):
        return "same_grid"
    return "float" if clamp_range(graph, node) is None else "clamp"


def is_activation(value: object) -> bool:
    """Whether the value is computed from the input: a float tensor that is not a parameter."""
    return isinstance(value, fx.Node) and value.op != "get_attr" and is_float_tensor(value)


def is_layer(module: object) -> bool:
    """Whether the module has weights that an integer kernel can take: exactly these types, padded with zeros."""
    # A subclass may compute something else.
    return type(module) is nn.Linear or (type(module) in (nn.Conv1d, nn.Conv2d) and module.padding_mode == "zeros")  # type: ignore[attr-defined]


def is_embedding(module: object) -> bool:
    """Whether the module only looks rows up."""
    return type(module) is nn.Embedding and module.max_norm is None


def clamp_range(graph: fx.GraphModule, node: fx.Node) -> tuple[float, float] | None:
    """The bounds of a ReLU, ReLU6, hard tanh, or clamp to numbers around zero, else None."""
    module = submodule(graph, node)
    if isinstance(module, nn.ReLU) or _calls(node, ("relu",)):
        return 0.0, float("inf")
    if isinstance(module, nn.Hardtanh):  # nn.ReLU6 is one
        return float(module.min_val), float(module.max_val)
    if _calls(node, ("relu6",)):
        return 0.0, 6.0
    if _calls(node, ("hardtanh",)):
        return _bounds(node, {"min_val": -1.0, "max_val": 1.0})
    if _calls(node, ("clamp",)):
        return _bounds(node, {"min": None, "max": None})
    return None


def rescaling(node: fx.Node) -> tuple[float, float] | None:
    """The numbers `(factor, offset)` by which the node turns one activation into another of other units, else None.

    `x.float()` of a float is one too: it is there for what is trained under autocast.
    """
    if _calls(node, ("float",)) and is_activation(node.args[0]):
        return 1.0, 0.0
    numbers = [value for value in node.args if isinstance(value, int | float)]
    others = [value for value in node.args if not isinstance(value, int | float)]
    if not _calls(node, ("add", "mul")) or node.kwargs or (len(numbers), len(others)) != (1, 1):
        return None
    if not is_activation(others[0]):
        return None
    return (float(numbers[0]), 0.0) if _calls(node, ("mul",)) else (1.0, float(numbers[0]))


def _calls(node: fx.Node, names: tuple[str, ...]) -> bool:
    """Whether the node calls a function or method of torch by one of these names (a module may be *named* `add`)."""
    if node.op == "call_method":
        name = str(node.target)
    elif node.op == "call_function" and isinstance(node.target, torch._ops.OpOverload):
        name = node.target._schema.name.removeprefix("aten::")
    elif node.op == "call_function" and _is_torchs(node.target):
        name = node.target.__name__  # type: ignore[union-attr]
    else:
        return False
    name = name.rstrip("_")
    return name in names or (name.startswith("i") and name[1:] in names and node.op == "call_function")


def _is_torchs(function: object) -> bool:
    """A function of the user's own may be called `add` too."""
    module = getattr(function, "__module__", None)
    return hasattr(function, "__name__") and (module is None or module.split(".")[0] in ("torch", "_operator"))


def _takes_two(node: fx.Node) -> bool:
    return not node.kwargs and len(node.args) == 2 and all(is_activation(value) for value in node.args)


def _bounds(node: fx.Node, defaults: dict[str, float | None]) -> tuple[float, float] | None:
    values: dict[str, object] = defaults | dict(zip(defaults, node.args[1:3], strict=False))
    values |= {key: value for key, value in node.kwargs.items() if key in defaults}
    low, high = values.values()
    if not isinstance(low, int | float) or not (high is None or isinstance(high, int | float)) or low > 0:
        return None
    high = float("inf") if high is None else float(high)
    return (float(low), high) if high > 0 else None


def _is_spatial_mean(node: fx.Node) -> bool:
    """Whether the node averages height and width away: the mean that has an integer kernel, as a global pool."""
    source = node.args[0] if node.args else None
    if not (_calls(node, ("mean",)) and isinstance(source, fx.Node) and is_float_tensor(source)):
        return False
    dims = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
    rank = len(shape_of(source))
    return rank == 4 and isinstance(dims, tuple | list) and sorted(int(dim) % rank for dim in dims) == [2, 3]
