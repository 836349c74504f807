"""What the simulated parts become after training: integers in buffers, and Q/DQ operators that export to ONNX."""

from __future__ import annotations

import torch

# Registers torch.ops.quantized_decomposed, which has no public door.
import torch.ao.quantization.fx._decomposed
from torch import Tensor, nn
from torch.nn import functional

from compresslab.quantization.fake_quant import ACTIVATION_RANGE, WEIGHT_RANGE
from compresslab.quantization.layers import QuantizedEmbedding, QuantizedLayer, layer_function

_QDQ = torch.ops.quantized_decomposed
_INT32 = (-(2**31), 2**31 - 1)


class QuantizeDequantize(nn.Module):
    """To uint8 and back, with constants: QuantizeLinear and DequantizeLinear in the exported graph."""

    def __init__(self, scale: float, zero_point: int) -> None:
        super().__init__()
        self.scale = scale
        self.zero_point = zero_point

    def forward(self, x: Tensor) -> Tensor:
        """float32 on the grid."""
        grid = (self.scale, self.zero_point, *ACTIVATION_RANGE, torch.uint8)
        values: Tensor = _QDQ.dequantize_per_tensor(_QDQ.quantize_per_tensor(x, *grid), *grid)
        return values


class IntegerLayer(nn.Module):
    """A layer whose weights are stored as int8 with one scale for each output channel.

    Args:
        quantized: The fake-quantized layer.
        input_scale: Given where a matrix [n, features] is multiplied and the output stays float: the bias is stored as
            int32 then, since only with integer operands throughout does ONNX Runtime run the layer as an integer
            kernel that writes floats. Elsewhere it turns a float bias into int32 itself, and the file is smaller;
            unless other layers stay in float, as the same optimizer of its would round their weights, and is switched
            off for that (see `export`). Where there are more dimensions, the layer is a MatMul and the bias an addition
            in float after it.
        matrix: Whether the input is a matrix.
    """

    weight: Tensor
    scale: Tensor
    zero_point: Tensor | None
    bias: Tensor | None
    bias_scale: Tensor | None

    def __init__(self, quantized: QuantizedLayer, input_scale: float | None, *, matrix: bool) -> None:
        super().__init__()
        layer = quantized.layer
        weight = layer.weight.detach()
        linear = isinstance(layer, nn.Linear)
        self._compute = layer_function(layer)
        self.register_buffer("weight", quantized.weights.integers(weight))
        self.register_buffer("scale", quantized.weights.scale(weight).detach().clone())
        bias = None if layer.bias is None else layer.bias.detach().float().clone()
        if bias is None and (matrix or not linear):
            # A matrix times weights without bias would be exported as a transposed MatMul, which has no integer kernel.
            bias = torch.zeros(len(weight))
        bias_scale = None if input_scale is None else self.scale * input_scale
        if bias is not None and bias_scale is not None:
            bias = (bias / bias_scale).round().clamp(*_INT32).to(torch.int32)
        # ONNX Runtime's integer GEMM wants the zero points spelt out; convolutions do without, in a smaller file.
        zero_point = torch.zeros(len(weight), dtype=torch.int8) if linear else None
        self.register_buffer("zero_point", zero_point)
        self.register_buffer("bias", bias)
        self.register_buffer("bias_scale", bias_scale)

    def forward(self, x: Tensor) -> Tensor:
        """What the layer gives with its integer weights."""
        weight = _per_channel(self.weight, self.scale, self.zero_point, WEIGHT_RANGE)
        bias = self.bias
        if bias is not None and self.bias_scale is not None:
            bias = _per_channel(bias, self.bias_scale, None, _INT32)
        return self._compute(x, weight, bias)


class IntegerEmbedding(nn.Module):
    """A table of int8 rows and one scale for each; what is looked up is multiplied out after.

    Written like that, the table stays int8 in memory: ONNX Runtime turns a constant that is dequantized as a whole into
    floats when it loads the file.
    """

    weight: Tensor
    scale: Tensor

    def __init__(self, quantized: QuantizedEmbedding) -> None:
        super().__init__()
        table = quantized.embedding.weight.detach()
        self.register_buffer("weight", quantized.weights.integers(table))
        self.register_buffer("scale", quantized.weights.scale(table).unsqueeze(1))

    def forward(self, ids: Tensor) -> Tensor:
        """float32 [..., width]."""
        return functional.embedding(ids, self.weight).float() * functional.embedding(ids, self.scale)


def _per_channel(values: Tensor, scale: Tensor, zero_point: Tensor | None, limits: tuple[int, int]) -> Tensor:
    floats: Tensor = _QDQ.dequantize_per_channel(values, scale, zero_point, 0, *limits, values.dtype)
    return floats
