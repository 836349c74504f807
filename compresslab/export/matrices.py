"""Quantized linear layers of sequences, as layers of matrices: the form in which a bias costs nothing.

Behind a product of more than two dimensions, ONNX Runtime 1.32 adds the bias in a kernel of its own; of a matrix it
makes one kernel, `QGemm`, that writes floats with the bias in them. So a sequence [n, length, width] is computed as its
rows [n * length, width], and what follows row by row (activations, normalizations, sums) with it, until something tells
the positions of a sequence apart.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

_QUANTIZING = ("QuantizeLinear", "DequantizeLinear")
_ROW_BY_ROW = (
    "Add", "Sub", "Mul", "Div", "Pow", "Erf", "Sqrt", "Neg", "Exp", "Tanh", "Sigmoid", "Relu", "Gelu", "Clip",
    "LayerNormalization", *_QUANTIZING,
)  # fmt: skip
_INT32 = np.iinfo(np.int32)


def multiply_rows(graph: ir.Graph) -> int:
    """Rewrites, in place, every integer linear layer whose input has more than two dimensions.

    The integers stay the same; the bias is rounded to a step of the product of the two scales. What nothing reads any
    more is left for `compact` to remove.

    Returns:
        How many layers that were.
    """
    rows = _Rows(graph)
    count = sum([rows.multiply(node) for node in list(graph) if node.op_type == "MatMul"])
    if count:
        for node in list(graph):
            rows.follow(node)
    return count


class _Rows:
    """What is there as rows, by the value whose rows they are."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._first = graph[0]
        self._rows: dict[ir.Value, ir.Value] = {}
        self._shapes: dict[tuple[object, ...], ir.Value] = {}

    def multiply(self, product: ir.Node) -> bool:
        """Makes a Gemm of a product with integer weights, and of the bias that is added to it."""
        given, weights = product.inputs
        dequantize, turned = _maker(given, "DequantizeLinear"), _maker(weights, "Transpose")
        stored = _maker(turned.inputs[0] if turned is not None else None, "DequantizeLinear")
        if dequantize is None or stored is None or given is None or len(given.shape or ()) < 3:
            return False
        last, bias = _with_bias(product)
        constants = (stored.inputs[0], stored.inputs[1], dequantize.inputs[1])
        if any(_array(value) is None for value in constants) or last.outputs[0].is_graph_output():
            return False
        if self._shape(last.outputs[0]) is None:
            return False
        operands = [self._dequantized(dequantize), stored.outputs[0]]
        if bias is not None:
            operands.append(self._integers(bias, dequantize, stored, str(product.outputs[0].name)))
        gemm = ir.node("Gemm", operands, {"transB": 1}, name=product.name)
        product.name = None  # it is there until what nothing reads is removed, and names are unique
        self._graph.insert_before(last, gemm)
        self._restore(last, gemm.outputs[0])
        return True

    def follow(self, node: ir.Node) -> None:
        """Computes the node by rows too, if an input is there as rows and it does not mind."""
        result = node.outputs[0]
        if not any(value in self._rows for value in node.inputs) or result in self._rows or result.is_graph_output():
            return
        if node.op_type == "Reshape":
            self._reshape(node)
        elif node.op_type in _ROW_BY_ROW and self._shape(result) is not None and _works_on_rows(node):
            inputs = [self._flat(node, value) if _is_computed(value) else value for value in node.inputs]
            # An axis is the last one here, or of no matter.
            attributes = {name: one.value for name, one in node.attributes.items() if name != "axis"}
            twin = ir.node(node.op_type, inputs, attributes, name=node.name)
            node.name = None
            self._graph.insert_before(node, twin)
            self._restore(node, twin.outputs[0])

    def _reshape(self, node: ir.Node) -> None:
        """What is reshaped may as well be the rows, unless a zero asks for a dimension of the input."""
        source, target = node.inputs[:2]
        assert source is not None
        shape = _array(target)
        copies = "allowzero" not in node.attributes or node.attributes["allowzero"].as_int() == 0
        if copies and (shape is None or 0 in shape):
            return
        if shape is not None and len(shape) == 2 and source.shape is not None and shape[1] == source.shape[-1]:
            node.outputs[0].replace_all_uses_with(self._rows[source])
        else:
            node.replace_input_with(0, self._rows[source])

    def _dequantized(self, dequantize: ir.Node) -> ir.Value:
        """The rows of what a DequantizeLinear gives, which has to stand next to the product."""
        result, integers = dequantize.outputs[0], dequantize.inputs[0]
        if result in self._rows:
            return self._rows[result]
        quantize = _maker(integers, "QuantizeLinear")
        reshape = _maker(quantize.inputs[0] if quantize is not None else None, "Reshape")
        assert integers is not None
        if quantize is not None and reshape is not None and reshape.inputs[0] is not None:
            # Such as the heads of attention side by side: made rows at once, instead of a sequence first.
            flat = self._reshaped(dequantize, reshape.inputs[0], result)
            pair = ir.node("QuantizeLinear", [flat, *quantize.inputs[1:]])
            self._graph.insert_before(dequantize, pair)
            flat = pair.outputs[0]
        else:
            flat = self._reshaped(dequantize, integers, result)
        again = ir.node("DequantizeLinear", [flat, *dequantize.inputs[1:]])
        self._graph.insert_before(dequantize, again)
        self._rows[result] = again.outputs[0]
        return again.outputs[0]

    def _flat(self, before: ir.Node, value: ir.Value | None) -> ir.Value:
        assert value is not None
        if value not in self._rows:
            self._rows[value] = self._reshaped(before, value, value)
        return self._rows[value]

    def _reshaped(self, before: ir.Node, value: ir.Value, like: ir.Value) -> ir.Value:
        assert like.shape is not None
        width = like.shape[-1]
        shape = self._constant(f"rows_of_{width}", np.array([-1, width], np.int64))
        reshape = ir.node("Reshape", [value, shape])
        self._graph.insert_before(before, reshape)
        return reshape.outputs[0]

    def _restore(self, node: ir.Node, rows: ir.Value) -> None:
        """The rows as a sequence again, in place of what the node gives; removed later where nothing needs it."""
        result, shape = node.outputs[0], self._shape(node.outputs[0])
        assert shape is not None
        reshape = ir.node("Reshape", [rows, shape], {"allowzero": 1})
        self._graph.insert_before(node, reshape)
        restored = reshape.outputs[0]
        restored.shape, restored.type = result.shape, result.type
        result.replace_all_uses_with(restored)
        self._rows[restored] = rows

    def _shape(self, value: ir.Value) -> ir.Value | None:
        """The value's shape as a tensor; None where it cannot be told from those of the graph's inputs."""
        if value.shape is None or len(value.shape) < 3 or not isinstance(value.shape[-1], int):
            return None
        open_ = [place for place, size in enumerate(value.shape) if not isinstance(size, int)]
        key = tuple(size if isinstance(size, int) else size.value for size in value.shape)
        if key in self._shapes:
            return self._shapes[key]
        name = "shape_" + "_".join(map(str, key))
        if len(open_) <= 1:
            sizes = [size if isinstance(size, int) else -1 for size in value.shape]
            self._shapes[key] = self._constant(name, np.array(sizes, np.int64))
            return self._shapes[key]
        given: dict[object, tuple[ir.Value, int]] = {}
        for source in self._graph.inputs:
            given |= {
                size.value: (source, place)
                for place, size in enumerate(source.shape or ())
                if not isinstance(size, int)
            }
        parts: list[ir.Value] = []
        for place, size in enumerate(key):
            if isinstance(size, int) or place == open_[-1]:
                number = size if isinstance(size, int) else -1
                parts.append(self._constant(f"size_{number}", np.array([number], np.int64)))
            elif size in given:
                source, at = given[size]
                told = ir.node("Shape", [source], {"start": at, "end": at + 1})
                self._graph.insert_before(self._first, told)
                parts.append(told.outputs[0])
            else:
                return None
        whole = ir.node("Concat", parts, {"axis": 0})
        self._graph.insert_before(self._first, whole)
        self._shapes[key] = whole.outputs[0]
        return whole.outputs[0]

    def _integers(self, bias: ir.Value, dequantize: ir.Node, stored: ir.Node, name: str) -> ir.Value:
        """The bias in steps of both scales, dequantized: only with integers throughout is there one kernel."""
        floats, given, weights = (_array(value) for value in (bias, dequantize.inputs[1], stored.inputs[1]))
        assert floats is not None
        assert given is not None
        assert weights is not None
        steps = np.clip(np.rint(floats / (given * weights)), _INT32.min, _INT32.max).astype(np.int32)
        # Multiplied when the file is loaded: as a constant it would be as long as the bias.
        scale = ir.node("Mul", [dequantize.inputs[1], stored.inputs[1]])
        whole = ir.node("DequantizeLinear", [self._constant(f"{name}.bias", steps), scale.outputs[0]], {"axis": 0})
        self._graph.insert_before(self._first, [scale, whole])
        return whole.outputs[0]

    def _constant(self, name: str, array: npt.NDArray[Any]) -> ir.Value:
        if name not in self._graph.initializers:
            value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
            value.shape, value.dtype = ir.Shape(array.shape), ir.DataType.from_numpy(array.dtype)
            self._graph.register_initializer(value)
        return self._graph.initializers[name]


def _works_on_rows(node: ir.Node) -> bool:
    """Whether each row of the result depends on the same row of every computed input, and on nothing else."""
    shape = node.outputs[0].shape
    if node.op_type == "LayerNormalization":
        axis = node.attributes["axis"].as_int() if "axis" in node.attributes else -1
        if axis not in (-1, len(shape or ()) - 1) or len(node.outputs) > 1:
            return False
    constants = [array for value in node.inputs if (array := _array(value)) is not None]
    if node.op_type in _QUANTIZING and any(array.size > 1 for array in constants):
        return False
    computed = [value.shape == shape for value in node.inputs if value is not None and _is_computed(value)]
    return all(computed) and all(array.ndim <= 1 for array in constants)


def _with_bias(product: ir.Node) -> tuple[ir.Node, ir.Value | None]:
    """The node that gives the layer's result, and the bias."""
    users = [user for user, _ in product.outputs[0].uses()]
    if len(users) == 1 and users[0].op_type == "Add" and not product.outputs[0].is_graph_output():
        for value in users[0].inputs:
            array = _array(value)
            if array is not None and array.ndim == 1:
                return users[0], value
    return product, None


def _maker(value: ir.Value | None, operator: str) -> ir.Node | None:
    node = value.producer() if value is not None else None
    return node if node is not None and node.op_type == operator else None


def _array(value: ir.Value | None) -> npt.NDArray[Any] | None:
    tensor = ir.convenience.get_const_tensor(value) if value is not None else None
    return None if tensor is None else tensor.numpy()


def _is_computed(value: ir.Value | None) -> bool:
    return value is not None and _array(value) is None
