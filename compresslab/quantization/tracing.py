"""A network as a torch.fx graph, its batch normalizations folded into the layers before them."""

from __future__ import annotations

import copy
import operator
from collections import Counter

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from compresslab.errors import ModelError


def trace(module: nn.Module, example: Tensor) -> fx.GraphModule:
    """The network in eval mode as a graph, each node with the shape and dtype it has for `example`.

    The argument is left unchanged. Dropout called as a function is gone (it is traced off); as a module it stays.

    Raises:
        ModelError: The network's Python cannot be traced, or it does not accept `example`.
    """
    name = type(module).__name__
    network = copy.deepcopy(module).eval()
    try:
        with torch.no_grad():
            network(example)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise ModelError(f"{name} does not accept an input of shape {tuple(example.shape)}: {error}") from error
    try:
        graph = fx.symbolic_trace(network)
    except (fx.proxy.TraceError, TypeError, ValueError, RuntimeError, AttributeError, NotImplementedError) as error:
        raise ModelError(
            f"{name} cannot be traced, so its operators cannot be quantized: {error}; let `forward` take the same "
            "path whatever the values and sizes it sees, or quantize the exported file with ONNX Runtime's quantizer"
        ) from error
    with torch.no_grad():
        ShapeProp(graph).propagate(example)
    _fold_normalizations(graph)
    _drop_identities(graph)
    _normalize_calls(graph)
    graph.delete_all_unused_submodules()
    graph.recompile()
    return graph


def submodule(graph: fx.GraphModule, node: object) -> nn.Module | None:
    """The module that the node calls, or None when it calls none."""
    if isinstance(node, fx.Node) and node.op == "call_module":
        return graph.get_submodule(str(node.target))
    return None


def shape_of(node: fx.Node) -> tuple[int, ...]:
    """The shape that the node had for the example."""
    return tuple(node.meta["tensor_meta"].shape)


def is_float_tensor(node: object) -> bool:
    """Whether the value is a floating-point tensor (and not a size, or a pair of tensors)."""
    meta = node.meta.get("tensor_meta") if isinstance(node, fx.Node) else None
    return bool(getattr(getattr(meta, "dtype", None), "is_floating_point", False))


def _fold_normalizations(graph: fx.GraphModule) -> None:
    """In place; a normalization that follows no layer stays, and stays in float."""
    calls = Counter(str(node.target) for node in graph.graph.nodes if node.op == "call_module")
    for node in list(graph.graph.nodes):
        norm = submodule(graph, node)
        if not isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d) or norm.running_mean is None:
            continue
        before = node.all_input_nodes[0]
        layer = submodule(graph, before)
        # A layer that is called twice, or whose raw output is read elsewhere, must stay what it is.
        if layer is None or len(before.users) != 1 or calls[str(before.target)] != 1:
            continue
        if isinstance(layer, nn.Conv1d | nn.Conv2d):
            folded: nn.Conv1d | nn.Conv2d | nn.Linear = fuse_conv_bn_eval(layer, norm)
        elif isinstance(layer, nn.Linear) and len(shape_of(before)) == 2:
            folded = fuse_linear_bn_eval(layer, norm)
        else:
            continue
        # The new bias has torch's default for a layer that had none: frozen.
        assert folded.bias is not None
        folded.bias.requires_grad_(layer.weight.requires_grad)
        graph.set_submodule(str(before.target), folded)
        node.replace_all_uses_with(before)
        graph.graph.erase_node(node)


def _normalize_calls(graph: fx.GraphModule) -> None:
    """`layer(input=x)` becomes `layer(x)`, and `x += y` becomes `x + y`.

    A sum in place would write into what a quantizer gave, which autograd may still need.
    """
    for node in graph.graph.nodes:
        if node.op == "call_module" and "input" in node.kwargs:
            node.args, node.kwargs = (node.kwargs["input"], *node.args), {}
        elif node.op == "call_function" and node.target is operator.iadd:
            node.target = operator.add
        elif node.op == "call_method" and node.target == "add_":
            node.target = "add"


def _drop_identities(graph: fx.GraphModule) -> None:
    for node in list(graph.graph.nodes):
        if isinstance(submodule(graph, node), nn.Identity):
            node.replace_all_uses_with(node.all_input_nodes[0])
            graph.graph.erase_node(node)
