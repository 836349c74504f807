"""Float weights that a graph quantizes each time it is loaded become the int8 numbers that this gives."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir


def fold_weights(graph: ir.Graph) -> int:
    """Replaces, in place, `QuantizeLinear` of a constant by a constant, and a `Clip` behind it too.

    What torch's PT2E quantizers export keeps float weights behind Q/DQ pairs, in a file as large as the float one.
    The outputs stay the same to the bit.

    Returns:
        How many weights were folded.
    """
    folded = 0
    for quantize in [node for node in graph if node.op_type == "QuantizeLinear"]:
        weight, scale, zero_point = (_constant(value) for value in (*quantize.inputs, None)[:3])
        if weight is None or scale is None or zero_point is None:
            continue
        axis = quantize.attributes["axis"].as_int() if "axis" in quantize.attributes else 1
        integers = _quantized(weight, scale, zero_point, axis)
        node = quantize
        users = [user for user, _ in node.outputs[0].uses()]
        if len(users) == 1 and users[0].op_type == "Clip":
            limits = [_constant(value) for value in users[0].inputs[1:3]]
            if len(limits) == 2 and all(limit is not None for limit in limits):
                integers, node = np.clip(integers, *limits), users[0]
        source = quantize.inputs[0]
        assert source is not None
        stored = ir.Value(name=f"{source.name}.int8", const_value=ir.tensor(integers))
        # A layer is named after its weights (see `export.compact`).
        stored.name, source.name = source.name, f"{source.name}.float"
        stored.shape, stored.dtype = ir.Shape(integers.shape), ir.DataType.from_numpy(integers.dtype)
        graph.initializers.pop(stored.name, None)
        graph.register_initializer(stored)
        node.outputs[0].replace_all_uses_with(stored)
        for gone in dict.fromkeys((node, quantize)):
            graph.remove(gone, safe=True)
        folded += 1
    return folded


def _constant(value: ir.Value | None) -> npt.NDArray[np.generic] | None:
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def _quantized(
    weight: npt.NDArray[np.generic], scale: npt.NDArray[np.generic], zero_point: npt.NDArray[np.generic], axis: int
) -> npt.NDArray[np.generic]:
    """As ONNX says: round half to even, add the zero point, saturate."""
    shape = (
        [-1 if dim == axis % weight.ndim else 1 for dim in range(weight.ndim)] if scale.size > 1 else [1] * weight.ndim
    )
    limits = np.iinfo(zero_point.dtype)
    steps = np.rint(weight / scale.reshape(shape)).astype(np.int64) + zero_point.reshape(shape).astype(np.int64)
    return np.clip(steps, limits.min, limits.max).astype(zero_point.dtype)
