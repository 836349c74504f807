"""Nothing in the file but the model: no debug metadata, no long names, nothing twice; and the same bytes every time."""

from __future__ import annotations

from collections import Counter
from itertools import count, product
from string import ascii_lowercase

import onnx
import onnx_ir as ir
from onnx_ir.passes import Sequential, common

# Left out, these attributes of convolutions and pools mean the same; the schema does not say so.
_IMPLIED = {"strides": 1, "dilations": 1, "pads": 0}


def compact(model: ir.Model) -> None:
    """Removes from the graph, in place, whatever does not change what it computes.

    The names of inputs and outputs stay. A node with weights is named after the layer they come from, so that profiles
    and reports can speak of it; all other names become as short as they can be.
    """
    Sequential(
        common.ClearMetadataAndDocStringPass(),
        common.LiftConstantsToInitializersPass(),
        common.IdentityEliminationPass(),
        common.DeduplicateInitializersPass(),
        common.RemoveUnusedNodesPass(),
        common.RemoveUnusedOpsetsPass(),
    )(model)
    model.metadata_props.clear()
    _name_nodes(model.graph)
    for node in model.graph.all_nodes():
        _drop_default_attributes(node, model.opset_imports.get("", 0))
    _shorten_values(model.graph)


def to_bytes(model: ir.Model) -> bytes:
    """The ONNX file; the same graph always gives the same bytes."""
    content: bytes = ir.to_proto(model).SerializeToString(deterministic=True)
    return content


def _name_nodes(graph: ir.Graph) -> None:
    """A name is unique, or is not there."""
    seen: Counter[str] = Counter()
    for node in graph.all_nodes():
        name = _layer_name(node)
        if name:
            seen[name] += 1
            name = name if seen[name] == 1 else f"{name}#{seen[name]}"
        node.name = name


def _layer_name(node: ir.Node) -> str | None:
    """`blocks.0.conv1` for what multiplies by `blocks.0.conv1.weight`, else what torch called the node, cut short."""
    if node.op_type in ("QuantizeLinear", "DequantizeLinear", "Relu", "Constant"):
        return None
    for value in node.inputs[1:]:
        producer = value.producer() if value is not None else None
        source = producer.inputs[0] if producer is not None and producer.op_type == "DequantizeLinear" else value
        if source is not None and source.is_initializer() and (source.name or "").endswith(".weight"):
            return str(source.name).removesuffix(".weight")
    return _name_by_bias(node) or (node.name or "").removeprefix("node_") or None


def _name_by_bias(node: ir.Node) -> str | None:
    """Of a float layer of sequences: its weights were transposed and have lost their name, its bias has not."""
    if node.op_type != "MatMul" or node.inputs[1] is None or not node.inputs[1].is_initializer():
        return None
    for user, _ in node.outputs[0].uses():
        for value in user.inputs if user.op_type == "Add" else ():
            if value is not None and value.is_initializer() and (value.name or "").endswith(".bias"):
                return str(value.name).removesuffix(".bias")
    return None


def _drop_default_attributes(node: ir.Node, opset: int) -> None:
    """What the operator's schema says anyway."""
    if node.domain or not onnx.defs.has(node.op_type):
        return
    schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
    for name, attribute in list(node.attributes.items()):
        value = onnx.helper.get_attribute_value(ir.to_proto(attribute))
        default = schema.attributes[name].default_value if name in schema.attributes else onnx.AttributeProto()
        given = default.type != onnx.AttributeProto.UNDEFINED and onnx.helper.get_attribute_value(default) == value
        if given or (name in _IMPLIED and set(value) == {_IMPLIED[name]}):
            del node.attributes[name]


def _shorten_values(graph: ir.Graph) -> None:
    """a, b, ..., aa, ab, ... in graph order; shapes and types of what is neither input nor output are dropped."""
    kept = {value.name for value in (*graph.inputs, *graph.outputs)}
    names = (name for size in count(1) for name in map("".join, product(ascii_lowercase, repeat=size)))
    fresh = (name for name in names if name not in kept)
    inner = [*graph.initializers.values(), *(value for node in graph.all_nodes() for value in node.outputs)]
    # Two passes: a new name must not meet an old one on the way.
    for index, value in enumerate(inner):
        if value.name not in kept:
            value.name = f"\0{index}"
    for value in inner:
        value.metadata_props.clear()
        if value.name not in kept:
            value.name = next(fresh)
            value.shape = value.type = None
