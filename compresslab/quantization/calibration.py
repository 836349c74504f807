"""Setting the ranges of a prepared network from real inputs."""

from __future__ import annotations

from itertools import accumulate, chain
from typing import TYPE_CHECKING

import torch
from torch import Tensor, fx, nn

from compresslab.errors import DataError, ModelError
from compresslab.quantization.correction import correct
from compresslab.quantization.equalization import equalize
from compresslab.quantization.insertion import insert, quantizers
from compresslab.quantization.layers import QuantizedEmbedding
from compresslab.quantization.smoothing import smooth

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

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
    settings: QuantizerSettings = prepared.meta["quantizer_settings"]
    prepared.eval()
    given = iter(batches)
    first = _first(given, settings.correction_samples)
    kept = _cut(first, settings.correction_samples)
    if first:
        _balance(prepared, kept, settings)
    _observe(prepared, chain(first, given))
    for name, part in observing:
        if not part.freeze():
            raise ModelError(f"the network gives NaN or infinity at `{name}` for calibration inputs that are finite")
    steps = settings.rounding_steps if settings.rounding == "adaround" else 0
    if steps or settings.correct_biases:
        correct(prepared, kept, rounding_steps=steps, biases=settings.correct_biases)


def _first(batches: Iterator[Tensor], samples: int) -> list[Tensor]:
    """Batches until there are as many samples as that, or more."""
    taken: list[Tensor] = []
    while sum(map(len, taken)) < samples and (batch := next(batches, None)) is not None:
        taken.append(batch)
    return taken


def _cut(batches: list[Tensor], samples: int) -> list[Tensor]:
    """The first samples, in batches as they came."""
    before = accumulate(map(len, batches), initial=0)
    return [batch[: samples - start] for start, batch in zip(before, batches, strict=False) if start < samples]


def _balance(prepared: fx.GraphModule, batches: list[Tensor], settings: QuantizerSettings) -> None:
    for index, batch in enumerate(batches):
        _extremes(batch, index, _dtype(prepared))
    try:
        if settings.equalize:
            equalize(prepared, batches)
        if settings.smoothing:
            smooth(prepared, batches, settings.smoothing)
    except (RuntimeError, IndexError) as error:
        raise DataError(f"the calibration batches do not fit the network: {error}") from error


def _dtype(prepared: fx.GraphModule) -> torch.dtype:
    (given,) = prepared.graph.find_nodes(op="placeholder")
    dtype: torch.dtype = given.meta["tensor_meta"].dtype
    return dtype


def _observe(prepared: fx.GraphModule, batches: Iterable[Tensor]) -> None:
    expected = _dtype(prepared)
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


def _extremes(batch: Tensor, index: int, expected: torch.dtype) -> tuple[float, float]:
    floating = expected.is_floating_point
    if batch.numel() == 0 or batch.is_floating_point() != floating or batch.is_complex():
        wanted = "preprocessed floating-point inputs" if floating else "whole numbers, as are the network's token ids"
        raise DataError(
            f"calibration batch {index} is {batch.dtype} of shape {tuple(batch.shape)}; give {wanted}, at least one"
        )
    low, high = torch.aminmax(batch)
    if floating and not bool(torch.isfinite(low) & torch.isfinite(high)):
        wrong = int((~torch.isfinite(batch)).flatten(1).any(1).nonzero()[0])
        raise DataError(f"calibration batch {index} holds NaN or infinity, first in example {wrong}; clean the data")
    return float(low), float(high)
