"""The same function in the form that ONNX Runtime's integer kernels are fastest with, on the CPU."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from compresslab.export.matrices import multiply_rows

_PACKED = 4
_FEWEST_OUTPUTS = 16


def rewrite(model: ir.Model) -> None:
    """Applies, in place, every rewriting of this module; the outputs stay the same up to the order of summation."""
    pool_globally(model.graph)
    pad_few_outputs(model.graph)
    pad_input_channels(model.graph)
    fold_units(model.graph)
    halve_last(model.graph)
    multiply_rows(model.graph)


def pool_globally(graph: ir.Graph) -> None:
    """A mean over height and width becomes a global average pool, which has an integer kernel where the mean has none.

    The pool keeps the two dimensions, so a Flatten follows; behind the QuantizeLinear, where there is one: the pool
    must stand directly between Q/DQ pairs to be fused.
    """
    for mean in [node for node in graph if node.op_type == "ReduceMean"]:
        source, result = mean.inputs[0], mean.outputs[0]
        if source is None or not _over_height_and_width(mean, source):
            continue
        pool = ir.node("GlobalAveragePool", [source], name=mean.name)
        graph.insert_before(mean, pool)
        keeps = "keepdims" not in mean.attributes or mean.attributes["keepdims"].as_int() == 1
        following = [user for user, _ in result.uses()]
        if keeps:
            _replace(graph, mean, pool.outputs[0])
        elif len(following) == 1 and following[0].op_type == "QuantizeLinear" and not result.is_graph_output():
            _replace(graph, mean, pool.outputs[0])
            quantize = following[0]
            users = list(quantize.outputs[0].uses())
            quantize.outputs[0].shape = None
            flat = ir.node("Flatten", [quantize.outputs[0]])
            graph.insert_after(quantize, flat)
            for user, index in users:
                user.replace_input_with(index, flat.outputs[0])
        else:
            flat = ir.node("Flatten", [pool.outputs[0]])
            graph.insert_before(mean, flat)
            _replace(graph, mean, flat.outputs[0])


def pad_few_outputs(graph: ir.Graph) -> None:
    """A quantized convolution with fewer than 16 outputs is given 16, of zero weights, that are read with zero weights.

    ONNX Runtime's fast int8 convolution writes at least 16 channels, so that a narrower one is slower than a full one.
    Only where nothing but quantized convolutions in one group reads the outputs. Measured for two 3x3 convolutions:
    16 -> 8 -> 16 channels at 28x28 27.9 -> 23.4 us, at 56x56 100 -> 84 us, 32 -> 8 -> 32 at 14x14 16.4 -> 14.6 us; 1x1,
    16 -> 8 -> 16 at 28x28 12.2 -> 10.4 us.
    """
    for node in [node for node in graph if node.op_type == "Conv"]:
        own = _stored_weights(node)
        if own is None or node.inputs[0] is None or not _is_from(node.inputs[0], "DequantizeLinear"):
            continue
        missing = _FEWEST_OUTPUTS - _shape(own)[0]
        readers = _integer_readers(node)
        vectors = _of_each_output(node)
        if missing <= 0 or not readers or vectors is None:
            continue
        _widen(own, 0, missing)
        for vector in vectors:
            # A scale of 1: it multiplies zeros, and must not be zero itself.
            _widen(vector, 0, missing, filler=1.0 if vector is _scale_of(node) else 0.0)
        for reader in readers:
            read = _stored_weights(reader)
            assert read is not None, "these are what readers are chosen by"
            _widen(read, 1, missing)
            _forget_shape(reader.inputs[1])
        quantize = next(user for user, _ in node.outputs[0].uses())
        for value in (node.inputs[1], node.outputs[0], quantize.outputs[0], reader.inputs[0]):
            _forget_shape(value)


def pad_input_channels(graph: ir.Graph) -> None:
    """Quantized input channels are padded to a multiple of four, with zero weights for the new ones.

    ONNX Runtime's fast int8 convolution (`MlasConvSym`) reads channels in fours and writes at least 16; with 1 or 3
    channels, the first convolution falls back to im2col. Measured: 16.6 -> 12.7 us for 3x3, 1 -> 16 channels at 28x28;
    1.7x faster for 3 channels at 224x224.
    """
    for source in graph.inputs:
        quantized = [user for user, _ in source.uses()]
        if len(quantized) != 1 or quantized[0].op_type != "QuantizeLinear" or source.shape is None:
            continue
        quantize = quantized[0]
        dequantized = [user for user, _ in quantize.outputs[0].uses()]
        channels = source.shape[1] if len(source.shape) == 4 else None
        if len(dequantized) != 1 or not isinstance(channels, int) or channels % _PACKED == 0:
            continue
        convolutions = [user for user, _ in dequantized[0].outputs[0].uses()]
        if convolutions and all(_gains_from_padding(node) for node in convolutions):
            _pad(graph, quantize, dequantized[0], convolutions, -channels % _PACKED)


def fold_units(graph: ir.Graph) -> None:
    """`gemm * a + b`, by which a network answers in the units of its targets, becomes the Gemm's own weights and bias.

    Two operators fewer: 4.13 -> 3.71 us for three small layers. Integer layers are folded when they are converted
    (`quantization.conversion`), as their weights are whole numbers here.
    """
    for gemm in [node for node in graph if node.op_type == "Gemm"]:
        for operator in ("Mul", "Add"):
            user = _only_user(gemm, operator)
            number = None if user is None else _number_beside(user, gemm.outputs[0])
            if user is None or number is None or not _scale_or_shift(gemm, operator, number):
                break
            _replace(graph, user, gemm.outputs[0])


def halve_last(graph: ir.Graph) -> None:
    """`x * (0.5 * (1 + erf(...)))`, as torch's exporter writes a GELU, becomes `(x * (1 + erf(...))) * 0.5`.

    ONNX Runtime fuses the second form, with the bias before it, into one kernel and runs the first as five. Measured:
    0.270 -> 0.253 ms for a vision transformer of four blocks, 96 wide.
    """
    for outer in [node for node in graph if node.op_type == "Mul"]:
        for place, value in enumerate(outer.inputs):
            inner = value.producer() if value is not None else None
            if inner is None or inner.op_type != "Mul" or len(inner.outputs[0].uses()) != 1:
                continue
            x = outer.inputs[1 - place]
            sum_place = next((at for at, one in enumerate(inner.inputs) if _is_one_plus_erf_of(one, x)), None)
            if sum_place is None or _number_beside(inner, inner.inputs[sum_place]) != 0.5:
                continue
            inner.outputs[0].shape = outer.outputs[0].shape
            outer.replace_input_with(1 - place, inner.inputs[1 - sum_place])
            inner.replace_input_with(1 - sum_place, x)
            break


def _is_one_plus_erf_of(value: ir.Value | None, x: ir.Value | None) -> bool:
    """Whether the value is `1 + erf(x / c)` or `1 + erf(x * c)`; so `x` is there before it is."""
    add = value.producer() if value is not None else None
    if add is None or add.op_type != "Add":
        return False
    for one in add.inputs:
        erf = one.producer() if one is not None else None
        scaled = erf.inputs[0] if erf is not None and erf.op_type == "Erf" else None
        producer = scaled.producer() if scaled is not None else None
        if producer is not None and x in producer.inputs:
            return _number_beside(add, one) == 1.0
    return False


def _only_user(node: ir.Node, operator: str) -> ir.Node | None:
    users = [user for user, _ in node.outputs[0].uses()]
    if len(users) != 1 or users[0].op_type != operator or node.outputs[0].is_graph_output():
        return None
    return users[0]


def _number_beside(node: ir.Node, value: ir.Value | None) -> float | None:
    """The other operand, if it is one constant number."""
    others = [one for one in node.inputs if one is not value]
    constant = ir.convenience.get_const_tensor(others[0]) if len(others) == 1 and others[0] is not None else None
    return float(constant.numpy().item()) if constant is not None and constant.size == 1 else None


def _scale_or_shift(gemm: ir.Node, operator: str, number: float) -> bool:
    """Whether the number could be put into float weights and a bias that nothing else reads."""
    parameters = [value for value in gemm.inputs[1:3] if value is not None]
    free = all(value.is_initializer() and len(value.uses()) == 1 for value in parameters)
    factors = [gemm.attributes[name].as_float() for name in ("alpha", "beta") if name in gemm.attributes]
    if len(parameters) != 2 or not free or any(factor != 1.0 for factor in factors):
        return False
    tensors = [value.const_value for value in parameters]
    if any(tensor is None or tensor.dtype != ir.DataType.FLOAT for tensor in tensors):
        return False
    for value, tensor, is_bias in zip(parameters, tensors, (False, True), strict=True):
        assert tensor is not None
        if operator == "Mul":
            value.const_value = ir.tensor(tensor.numpy() * np.float32(number), name=value.name)
        elif is_bias:
            value.const_value = ir.tensor(tensor.numpy() + np.float32(number), name=value.name)
    return True


def _over_height_and_width(mean: ir.Node, source: ir.Value) -> bool:
    axes = ir.convenience.get_const_tensor(mean.inputs[1]) if len(mean.inputs) > 1 and mean.inputs[1] else None
    if axes is None or source.shape is None or len(source.shape) != 4:
        return False
    return sorted(int(axis) % 4 for axis in axes.numpy()) == [2, 3]


def _replace(graph: ir.Graph, node: ir.Node, value: ir.Value) -> None:
    """`value` takes the place of what the node gives, its name too where it is the graph's output."""
    result = node.outputs[0]
    if result.is_graph_output():
        value.name, value.shape, value.type = result.name, result.shape, result.type
    result.replace_all_uses_with(value, replace_graph_outputs=True)
    graph.remove(node, safe=True)


def _gains_from_padding(node: ir.Node) -> bool:
    """A convolution in one group, of int8 weights that nothing else reads, with enough outputs for the fast kernel."""
    stored = _stored_weights(node)
    return stored is not None and _shape(stored)[0] >= _FEWEST_OUTPUTS


def _stored_weights(node: ir.Node) -> ir.Value | None:
    """The int8 weights [out, in, height, width] of a convolution in one group that nothing else reads."""
    dequantize = node.inputs[1].producer() if node.op_type == "Conv" and node.inputs[1] is not None else None
    stored = dequantize.inputs[0] if dequantize is not None and dequantize.op_type == "DequantizeLinear" else None
    if stored is None or stored.const_value is None or len(stored.uses()) != 1:
        return None
    grouped = "group" in node.attributes and node.attributes["group"].as_int() != 1
    return stored if not grouped and len(_shape(stored)) == 4 else None


def _integer_readers(node: ir.Node) -> list[ir.Node]:
    """The convolutions that read, once quantized, what one gives; none where anything else does."""
    value = node.outputs[0]
    for operator in ("QuantizeLinear", "DequantizeLinear"):
        users = [user for user, _ in value.uses()]
        if value.is_graph_output() or len(users) != 1 or users[0].op_type != operator:
            return []
        scale = users[0].inputs[1]
        if scale is None or scale.const_value is None or scale.const_value.size != 1:
            return []
        value = users[0].outputs[0]
    uses = value.uses()
    if value.is_graph_output() or not all(index == 0 and _stored_weights(user) is not None for user, index in uses):
        return []
    return [user for user, _ in uses]


def _scale_of(node: ir.Node) -> ir.Value | None:
    dequantize = node.inputs[1].producer() if node.inputs[1] is not None else None
    return dequantize.inputs[1] if dequantize is not None else None


def _of_each_output(node: ir.Node) -> list[ir.Value] | None:
    """What a convolution has one number of for each output: bias, scales, zero points; None where they are not free."""
    dequantize = node.inputs[1].producer() if node.inputs[1] is not None else None
    assert dequantize is not None, "its weights are stored"
    found = [value for value in (*node.inputs[2:], *dequantize.inputs[1:]) if value is not None]
    if any(not value.is_initializer() or value.const_value is None for value in found):
        return None
    found = [value for value in found if _shape(value)]
    return found if all(len(value.uses()) == 1 and len(_shape(value)) == 1 for value in found) else None


def _is_from(value: ir.Value, operator: str) -> bool:
    producer = value.producer()
    return producer is not None and producer.op_type == operator


def _shape(value: ir.Value) -> tuple[int, ...]:
    assert value.const_value is not None, "it is a constant"
    return tuple(value.const_value.numpy().shape)


def _widen(value: ir.Value, axis: int, missing: int, filler: float = 0.0) -> None:
    assert value.const_value is not None, "it is a constant"
    array = value.const_value.numpy()
    padded = np.pad(array, [(0, missing if one == axis else 0) for one in range(array.ndim)], constant_values=filler)
    value.const_value = ir.tensor(padded, name=value.name)
    value.shape = ir.Shape(padded.shape)


def _forget_shape(value: ir.Value | None) -> None:
    if value is not None:
        value.shape = None


def _pad(graph: ir.Graph, quantize: ir.Node, dequantize: ir.Node, convolutions: list[ir.Node], missing: int) -> None:
    pads = np.array([0, 0, 0, 0, 0, missing, 0, 0], np.int64)
    amount = ir.Value(name="input_channel_pads", const_value=ir.tensor(pads))
    graph.register_initializer(amount)
    # The new channels are read with zero weights, so what they hold does not matter; the default is zero.
    pad = ir.node("Pad", [quantize.outputs[0], amount])
    graph.insert_after(quantize, pad)
    dequantize.replace_input_with(0, pad.outputs[0])
    dequantize.outputs[0].shape = None
    for node in convolutions:
        weights = node.inputs[1]
        assert weights is not None
        producer = weights.producer()
        assert producer is not None
        stored = producer.inputs[0]
        assert stored is not None
        _widen(stored, 1, missing)
        weights.shape = None
