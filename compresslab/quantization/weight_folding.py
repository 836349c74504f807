"""Float weights that a graph quantizes each time it is loaded become the int8 numbers that this gives."""

from __future__ import annotations

from typing import Any

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
        integers, node = _quantized(weight, scale, zero_point, axis), quantize
        clip = _only_clip(quantize)
        low, high = (None, None) if clip is None else (_constant(value) for value in clip.inputs[1:3])
        if clip is not None and low is not None and high is not None:
            integers, node = np.clip(integers, low, high), clip
        source = quantize.inputs[0]
        assert source is not None
        name = str(source.name)
        stored = ir.Value(name=name, const_value=ir.tensor(integers))
        stored.shape, stored.dtype = ir.Shape(integers.shape), ir.DataType.from_numpy(integers.dtype)
        # A layer is named after its weights (see `export.compact`), so the integers take the name.
        graph.initializers.pop(name, None)
        source.name = f"{name}.float"
        graph.register_initializer(stored)
        node.outputs[0].replace_all_uses_with(stored)
        for gone in dict.fromkeys((node, quantize)):
            graph.remove(gone, safe=True)
        folded += 1
    return folded


def _only_clip(node: ir.Node) -> ir.Node | None:
    users = [user for user, _ in node.outputs[0].uses()]
    clip = users[0] if len(users) == 1 and users[0].op_type == "Clip" else None
    return clip if clip is not None and len(clip.inputs) == 3 else None


def _constant(value: ir.Value | None) -> npt.NDArray[Any] | None:
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def _quantized(
    weight: npt.NDArray[Any], scale: npt.NDArray[Any], zero_point: npt.NDArray[Any], axis: int
) -> npt.NDArray[Any]:
    """As ONNX says: round half to even, add the zero point, saturate."""
    shape = (
        [-1 if dim == axis % weight.ndim else 1 for dim in range(weight.ndim)] if scale.size > 1 else [1] * weight.ndim
    )
    limits = np.iinfo(zero_point.dtype)
    steps = np.rint(weight / scale.reshape(shape)).astype(np.int64) + zero_point.reshape(shape).astype(np.int64)
    integers: npt.NDArray[Any] = np.clip(steps, limits.min, limits.max).astype(zero_point.dtype)
    return integers
