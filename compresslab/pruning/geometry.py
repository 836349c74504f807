"""What decides how long a layer takes beside its widths, as plain data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

DEPTHWISE = 0
"""As `groups`: every channel on its own, however many there are."""


@dataclass(frozen=True)
class Geometry:
    """All of a layer but its widths.

    Args:
        kind: A convolution, its transpose, or a product with a matrix.
        size: Of the input, without batch and channels: [h, w] of a convolution; [tokens] of a matrix product on
            [b, tokens, c], nothing for one on [b, c].
        kernel: As many numbers as `size` has, as in the next three; empty for a matrix product.
        stride: Of the kernel.
        padding: On both sides.
        dilation: Of the kernel.
        groups: Of the channels; `DEPTHWISE` where each has a kernel of its own.
        copies: Inputs an example, where the network folds something into the batch.
    """

    kind: Literal["conv", "transposed", "linear"]
    size: tuple[int, ...] = ()
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1
    copies: int = 1


@dataclass(frozen=True)
class Sized:
    """A geometry with channels in and out."""

    geometry: Geometry
    inputs: int
    outputs: int


@dataclass(frozen=True)
class Layer:
    """A layer of a network as it stands; `positions`: values of one output channel for one example."""

    name: str
    sized: Sized
    positions: int


def step_for(width: int) -> int:
    """Between the widths that are worth a look: at most 16 of them, and multiples of what SIMD registers hold.

    ONNX Runtime's fp32 convolutions work on blocks of 16 channels (AVX-512) or 8 (AVX2, NEON), its int8 ones on 4 in
    and 16 out; a layer costs the same anywhere in a block.
    """
    if width <= 32:
        return 4
    return 8 if width <= 128 else 16 * math.ceil(width / 256)


def levels(units: int, channels: int, step: int | None = None) -> tuple[int, ...]:
    """Numbers of units, rising, the last being all, whose channels fill multiples of `step`.

    Args:
        units: How many there are.
        channels: Channels of each.
        step: None for `step_for` the width.
    """
    step = step_for(units * channels) if step is None else step
    found = [count for count in range(1, units) if count * channels % step == 0]
    # Heads of 64 channels, or units of a grouped convolution: all are multiples, and may be many.
    thinned = found[:: math.ceil(len(found) / 16)] if found else []
    return (*thinned, units)
