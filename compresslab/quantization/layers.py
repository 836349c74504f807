"""Layers that compute with their weights on the int8 grid, in float, so that they can be calibrated and trained."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional

from compresslab.quantization.fake_quant import WeightQuantizer

if TYPE_CHECKING:
    from collections.abc import Callable


class QuantizedLayer(nn.Module):
    """A convolution or linear layer that computes with its weights on their int8 grid. The bias stays float."""

    def __init__(self, layer: nn.Module, *, learn_scales: bool) -> None:
        super().__init__()
        assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Linear)
        self.layer = layer
        self.weights = WeightQuantizer(len(layer.weight), learn_scale=learn_scales)
        self._compute = layer_function(layer)

    def forward(self, x: Tensor) -> Tensor:
        """What the layer gives with quantized weights."""
        return self._compute(x, self.weights(self.layer.weight), self.layer.bias)


class QuantizedEmbedding(nn.Module):
    """A table whose rows lie on int8 grids, each row with a scale of its own.

    One scale for the whole table loses 12 dB on rows of unlike size, and one for each column costs ten times the time
    of a look-up in ONNX Runtime. Only the rows that are looked up are quantized, as a table may be large.
    """

    def __init__(self, embedding: nn.Embedding) -> None:
        super().__init__()
        self.embedding = embedding
        # Its size is that of the rows in a batch, so no scale of it can be trained.
        self.weights = WeightQuantizer(embedding.num_embeddings, learn_scale=False)

    def forward(self, ids: Tensor) -> Tensor:
        """float32 [..., width]: the rows, on their grids."""
        rows: Tensor = self.embedding(ids)
        values: Tensor = self.weights(rows.flatten(0, -2))
        return values.reshape(rows.shape)


def layer_function(layer: nn.Module) -> Callable[[Tensor, Tensor, Tensor | None], Tensor]:
    """The layer as a function of input, weight and bias."""
    if isinstance(layer, nn.Linear):
        return functional.linear
    assert isinstance(layer, nn.Conv1d | nn.Conv2d)
    convolve = functional.conv1d if isinstance(layer, nn.Conv1d) else functional.conv2d
    return partial(convolve, stride=layer.stride, padding=layer.padding, dilation=layer.dilation, groups=layer.groups)
