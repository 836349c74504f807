"""Running a prepared network node by node, to look at every value on its way, in float or quantized."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx

from compresslab.quantization.fake_quant import ActivationQuantizer
from compresslab.quantization.layers import QuantizedEmbedding, QuantizedLayer
from compresslab.quantization.tracing import submodule

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import nn

Values = dict[fx.Node, list[Any]]
"""What each node gave, for every batch."""


def walk(
    graph: fx.GraphModule, batches: Sequence[Tensor], visit: Callable[[fx.Node, Values], None], *, quantized: bool
) -> None:
    """Computes one node for all batches, then the next; a value is kept until its last reader has it.

    Args:
        graph: A prepared network.
        batches: Its inputs.
        visit: Called with each node and the values known by then, before those of the node are.
        quantized: Whether weights and activations are put on their grids.
    """
    walk_side_by_side(graph, batches, lambda node, values, _: visit(node, values), modes=(quantized,))


def walk_side_by_side(
    graph: fx.GraphModule,
    batches: Sequence[Tensor],
    visit: Callable[[fx.Node, Values, Values], None],
    modes: tuple[bool, ...] = (False, True),
) -> None:
    """`walk` in float and quantized at once: `visit` gets the node and both.

    What `visit` changes in a layer counts for the quantized network only: the float one has gone ahead by then.
    """
    last_readers = _last_readers(graph)
    known: list[Values] = [{} for _ in modes]
    with torch.no_grad():
        for node in graph.graph.nodes:
            if node.op == "output":
                break
            if not modes[0]:
                known[0][node] = _compute(graph, node, known[0], batches, quantized=False)
            visit(node, known[0], known[-1])
            for values, quantized in zip(known, modes, strict=True):
                if quantized:
                    values[node] = _compute(graph, node, values, batches, quantized=True)
                for finished in last_readers.get(node, ()):
                    del values[finished]


def layers_called_once(graph: fx.GraphModule) -> dict[fx.Node, QuantizedLayer]:
    """The quantized layers by their calls. What is called twice has two inputs, and no way to suit both."""
    calls = Counter(str(node.target) for node in graph.graph.nodes if node.op == "call_module")
    found = {node: submodule(graph, node) for node in graph.graph.nodes}
    return {
        node: part for node, part in found.items() if isinstance(part, QuantizedLayer) and calls[str(node.target)] == 1
    }


def _last_readers(graph: fx.GraphModule) -> dict[fx.Node, list[fx.Node]]:
    last: dict[fx.Node, fx.Node] = {}
    for node in graph.graph.nodes:
        last[node] = node
        last |= dict.fromkeys(node.all_input_nodes, node)
    readers: dict[fx.Node, list[fx.Node]] = {}
    for node, reader in last.items():
        readers.setdefault(reader, []).append(node)
    return readers


def _compute(
    graph: fx.GraphModule, node: fx.Node, values: Values, batches: Sequence[Tensor], *, quantized: bool
) -> list[Any]:
    if node.op == "placeholder":
        return list(batches)
    if node.op == "get_attr":
        value: Any = graph
        for part in str(node.target).split("."):
            value = getattr(value, part)
        return [value] * len(batches)
    module = submodule(graph, node)
    if module is not None and not quantized:
        module = _in_float(module)
    results = []
    for index in range(len(batches)):
        here = {one: values[one][index] for one in node.all_input_nodes}
        arguments: Any = fx.node.map_arg(node.args, here.__getitem__)
        options: Any = fx.node.map_arg(node.kwargs, here.__getitem__)
        if module is not None:
            results.append(module(*arguments, **options))
        elif node.op == "call_method":
            results.append(getattr(arguments[0], str(node.target))(*arguments[1:], **options))
        else:
            assert callable(node.target)
            results.append(node.target(*arguments, **options))
    return results


def _in_float(module: nn.Module) -> nn.Module:
    if isinstance(module, QuantizedLayer):
        return module.layer
    if isinstance(module, QuantizedEmbedding):
        return module.embedding
    return torch.nn.Identity() if isinstance(module, ActivationQuantizer) else module
