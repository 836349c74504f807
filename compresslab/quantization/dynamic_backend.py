"""ONNX Runtime's dynamic quantizer: int8 weights, activations quantized as they come, so nothing is calibrated.

For networks of matrix products. It needs no calibration data, and its activations lose less than static ones do on a
transformer. Convolutions it would make slower than they are in float, and it leaves them alone here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnxruntime import quantization as ort
from torch import nn

from compresslab.candidate import OnnxModel
from compresslab.errors import ModelError
from compresslab.export.graph_costs import PRODUCTS, graph_costs
from compresslab.quantization.ort_backend import load_float, preprocessed, quiet
from compresslab.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

_MOST = 0.5
# Of a text, to tell the share by: more would be more than some networks have positions for.
_TOKENS = 8
_REMEDY = (
    "ONNX Runtime quantizes a convolution as it comes by a kernel that is slower than float (a ResNet-18 measured "
    "22 ms against 15.4 ms in float and 4.4 ms with static ranges); use `backend: own` or `onnxruntime`"
)


class DynamicSettings(Settings):
    """int8 weights; every activation gets the range it has in that call."""

    per_channel: bool = True
    """One scale for each output channel of a weight, instead of one for all."""
    embeddings: bool = True
    """Store embedding tables in eight bits too (uint8, one scale a table): half of a small language model's file."""


_DEFAULT = DynamicSettings()


def quantize_dynamic(graph: Path, destination: Path, settings: DynamicSettings = _DEFAULT) -> OnnxModel:
    """Quantizes an exported float graph with `onnxruntime.quantization.quantize_dynamic`.

    Args:
        graph: A float ONNX file; left unchanged.
        destination: The file to write.
        settings: What is quantized, and how finely.

    Raises:
        ModelError: The graph is quantized already, or its convolutions do most of the multiply-adds.
        ArtifactError: The file is missing or not ONNX.
    """
    require_graph_of_products(graph)
    operators = ["MatMul", "Gather"] if settings.embeddings else ["MatMul"]
    with preprocessed(graph) as prepared, quiet():
        ort.quantize_dynamic(
            prepared,
            destination,
            op_types_to_quantize=operators,
            per_channel=settings.per_channel,
            weight_type=ort.QuantType.QInt8,
        )
    return OnnxModel(destination)


def require_graph_of_products(graph: Path) -> None:
    """Refuses what `quantize_dynamic` will not do.

    Raises:
        ModelError: The graph is quantized already, or its convolutions do most of the multiply-adds.
        ArtifactError: The file is missing or not ONNX.
    """
    model = load_float(graph)
    counted = [graph_costs(model, operators, length=_TOKENS).macs for operators in (("Conv",), PRODUCTS)]
    _require_products(*counted)


def require_products(module: nn.Module, example: Tensor) -> None:
    """Refuses a network that `quantize_dynamic` will refuse once it is a graph, as far as its layers tell.

    Args:
        module: Left as it was.
        example: An input such as the network will get.

    Raises:
        ModelError: Its convolutions do most of the multiply-adds.
    """
    counts = {"convolutions": 0, "all": 0}

    def count(layer: nn.Module, _: tuple[Tensor, ...], result: Tensor) -> None:
        weight = layer.weight
        assert isinstance(weight, nn.Parameter)
        done = result.numel() * weight[0].numel()
        counts["all"] += done
        counts["convolutions"] += 0 if isinstance(layer, nn.Linear) else done

    layers = [part for part in module.modules() if isinstance(part, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)]
    hooks = [part.register_forward_hook(count) for part in layers]
    was_training = module.training
    try:
        module.eval()(example)
    finally:
        module.train(was_training)
        for hook in hooks:
            hook.remove()
    _require_products(counts["convolutions"], counts["all"])


def _require_products(convolutions: int, total: int) -> None:
    if convolutions > _MOST * total:
        share = "all" if convolutions == total else f"{100 * convolutions // total} %"
        raise ModelError(f"`backend: dynamic` is for networks of matrix products, but here convolutions do {share} of "
                         f"the multiply-adds: {_REMEDY}")  # fmt: skip
