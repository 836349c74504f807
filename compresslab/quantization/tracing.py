"""A network as a torch.fx graph, its batch normalizations folded into the layers before them.

Two front doors lead to one kind of graph. Symbolic tracing keeps the network's own modules (dropout too) and is taken
where it sees all weights in them: nearly every CNN. torch.export follows the rest: whatever branches on sizes or hands
weights to functions, as the transformers of Hugging Face and timm do. Transformers' own tracer knows its own classes
only, and swapping layers in place would see neither sums nor products.
"""

from __future__ import annotations

import copy
import operator
from collections import Counter

import torch
from torch import Tensor, fx, nn
from torch._dynamo.exc import TorchDynamoException, UserError
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from compresslab.errors import ModelError
from compresslab.quantization.lifting import export_and_lift

_NEEDING_WEIGHTS = (
    functional.linear, functional.conv1d, functional.conv2d, functional.embedding, functional.batch_norm,
    functional.layer_norm, functional.scaled_dot_product_attention, functional.multi_head_attention_forward,
)  # fmt: skip

_TRACED = "traced"


def trace(module: nn.Module, example: Tensor) -> fx.GraphModule:
    """The network in eval mode as a graph, each node with the shape and dtype it has for `example`.

    The argument is left unchanged. Dropout called as a function is gone (it is traced off), and all of it where
    torch.export is needed; as a module it stays. Of what has been traced already this is a copy, with the same names.

    Raises:
        ModelError: The network's Python cannot be traced, or it does not accept `example`.
    """
    if isinstance(module, fx.GraphModule) and module.meta.get(_TRACED):
        return copy.deepcopy(module)
    name = type(module).__name__
    # As for export: with the channels last, which training leaves behind, views are traced as strides of memory.
    network = copy.deepcopy(module).eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    try:
        with torch.no_grad():
            network(example)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise ModelError(
            f"{name} does not accept an input of shape {tuple(example.shape)} and {example.dtype}: {error}"
        ) from error
    graph = _symbolic(network) or _exported(network, example)
    measure_values(graph, example)
    _fold_normalizations(graph)
    _drop_identities(graph)
    _normalize_calls(graph)
    graph.delete_all_unused_submodules()
    graph.recompile()
    graph.meta[_TRACED] = True
    return graph


def _symbolic(network: nn.Module) -> fx.GraphModule | None:
    """The network as its own modules call each other; None where Python is in the way, or weights are out of sight."""
    try:
        graph = fx.symbolic_trace(network)
    except (fx.proxy.TraceError, TypeError, ValueError, RuntimeError, AttributeError):
        return None
    weighed = [node for node in graph.graph.nodes if node.op == "call_function" and node.target in _NEEDING_WEIGHTS]
    return None if weighed else graph


def _exported(network: nn.Module, example: Tensor) -> fx.GraphModule:
    try:
        return export_and_lift(network, example)
    except (UserError, TorchDynamoException, RuntimeError, ValueError, TypeError, AttributeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(
            f"{type(network).__name__} cannot be traced, so its operators cannot be quantized: {reason}; let `forward` "
            "take the same path whatever the values and batch sizes it sees (`x.shape[0]`, where `len(x)` would fix "
            "it), or quantize the exported file with ONNX Runtime's quantizer"
        ) from error


def measure_values(graph: fx.GraphModule, example: Tensor) -> None:
    """Gives each node the shape and dtype that it has for `example`."""
    with torch.no_grad():
        ShapeProp(graph).propagate(example)


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
