"""Setting the ranges of a prepared network from real inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, fx, nn

from compresslab.errors import DataError, ModelError
from compresslab.quantization.insertion import insert, quantizers
from compresslab.quantization.layers import QuantizedEmbedding

if TYPE_CHECKING:
    from collections.abc import Iterable

    from compresslab.quantization.settings import QuantizerSettings


def prepare(module: nn.Module, example: Tensor, settings: QuantizerSettings) -> nn.Module:
    """A copy of the network with quantizers that observe, ready for `calibrate`.

    Normalizations are folded into the layers before them, for good: train the network first.

    Args:
        module: Any network that torch.fx can trace or torch.export can follow; left unchanged.
        example: An input such as the network will get: float32 [n, ...], or int64 [n, length] where it takes token
            ids.
        settings: How ranges are found, and whether scales are trained.

    Raises:
        ModelError: The network cannot be traced, is quantized already, or has nothing to quantize.
    """
    return insert(module, example, settings)


def calibrate(prepared: nn.Module, batches: Iterable[Tensor]) -> None:
    """Sets every range, in place, from real inputs; no labels are needed. From then on the network fake-quantizes.

    It may be trained afterwards like any network (quantization-aware training): gradients pass the rounding unchanged,
    and stop at values outside the range.

    Args:
        prepared: What `prepare` gave.
        batches: As the network will get them: float32 [n, ...] or int64 [n, length]. A few hundred examples are enough.

    Raises:
        DataError: No batch, a NaN or infinite value, a shape or dtype that the network does not take, an id that its
            tables do not have, or one value everywhere.
        ModelError: The network was not prepared or is calibrated already, or gives NaN or infinity inside.
    """
    observing = [(name, part) for name, part in quantizers(prepared) if part.observer is not None]
    only_tables = not any(quantizers(prepared)) and any(isinstance(m, QuantizedEmbedding) for m in prepared.modules())
    if not observing and not only_tables:
        raise ModelError("the network has no observing quantizers; call `prepare` first, and `calibrate` once")
    assert isinstance(prepared, fx.GraphModule)
    expected = next(node for node in prepared.graph.nodes if node.op == "placeholder").meta["tensor_meta"].dtype
    prepared.eval()
    count, lowest, highest = 0, float("inf"), float("-inf")
    with torch.no_grad():
        for index, batch in enumerate(batches):
            low, high = _extremes(batch, index, expected)
            lowest, highest, count = min(lowest, low), max(highest, high), count + len(batch)
            try:
                prepared(batch)
            except (RuntimeError, IndexError) as error:
                raise DataError(
                    f"calibration batch {index} of shape {tuple(batch.shape)} does not fit the network: {error}"
                ) from error
    if count == 0:
        raise DataError("there are no calibration batches; give at least one, better a few hundred examples")
    if lowest == highest:
        raise DataError(
            f"all {count} calibration inputs hold the one value {lowest:g}, so no range can be found; give real inputs"
        )
    for name, part in observing:
        if not part.freeze():
            raise ModelError(f"the network gives NaN or infinity at `{name}` for calibration inputs that are finite")


def _extremes(batch: Tensor, index: int, expected: torch.dtype) -> tuple[float, float]:
    floating = expected.is_floating_point
    if batch.numel() == 0 or batch.is_floating_point() != floating or batch.is_complex():
        raise DataError(
            f"calibration batch {index} is {batch.dtype} of shape {tuple(batch.shape)}; give "
            + ("preprocessed floating-point inputs" if floating else "whole numbers, the token ids that the network takes")
            + ", at least one"
        )
    low, high = torch.aminmax(batch)
    if floating and not bool(torch.isfinite(low) & torch.isfinite(high)):
        wrong = int((~torch.isfinite(batch)).flatten(1).any(1).nonzero()[0])
        raise DataError(f"calibration batch {index} holds NaN or infinity, first in example {wrong}; clean the data")
    return float(low), float(high)
