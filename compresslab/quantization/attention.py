"""Attention taken apart, so that the two matrix products in it can be quantized."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from compresslab.quantization.lifting import arguments_of
from compresslab.quantization.tracing import is_float_tensor, measure_values, shape_of

if TYPE_CHECKING:
    from torch import Tensor, fx

_ATEN = torch.ops.aten
_ATTENTION = _ATEN.scaled_dot_product_attention.default


def take_apart(graph: fx.GraphModule, example: Tensor) -> None:
    """Replaces, in place, each attention by two matrix products, a scaling, a mask where there is one, and a softmax.

    One that is causal, drops out, shares keys among queries, or has a mask of truth values stays whole, and in float.
    """
    for node in graph.graph.find_nodes(op="call_function", target=_ATTENTION):
        given = arguments_of(node)
        query, key, value, mask = (given[name] for name in ("query", "key", "value", "attn_mask"))
        if given["is_causal"] or given["dropout_p"] or given["enable_gqa"]:
            continue
        if mask is not None and not is_float_tensor(mask):
            continue
        scale = given["scale"] or 1 / math.sqrt(shape_of(query)[-1])
        with graph.graph.inserting_before(node):
            call = graph.graph.call_function
            scores = call(_ATEN.matmul.default, (query, call(_ATEN.transpose.int, (key, -2, -1))))
            scores = call(_ATEN.mul.Tensor, (scores, scale))
            if mask is not None:
                scores = call(_ATEN.add.Tensor, (scores, mask))
            weights = call(functional.softmax, (scores,), {"dim": -1})
            node.replace_all_uses_with(call(_ATEN.matmul.default, (weights, value)))
        graph.graph.erase_node(node)
    graph.recompile()
    measure_values(graph, example)
