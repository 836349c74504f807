"""What can be chosen about our own Q/DQ path; the same for calibration and for training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from compresslab.settings import Settings

ObserverName = Literal["minmax", "moving_average", "percentile", "mse"]


class QuantizerSettings(Settings):
    """uint8 per-tensor affine activations and int8 per-channel symmetric weights: what ONNX Runtime runs fast."""

    observer: ObserverName = "mse"
    """How the range of an activation is found: its extremes (`minmax`), their mean over the batches
    (`moving_average`), all but the outermost values (`percentile`), or the least squared error (`mse`)."""
    percentile: float = Field(99.99, gt=50, le=100)
    """Share of the values, in per cent, that stays inside the range; only `percentile` reads it."""
    momentum: float = Field(0.1, gt=0, le=1)
    """Weight of the newest batch; only `moving_average` reads it."""
    learn_scales: bool = False
    """Train a factor on every scale beside the weights; else QAT keeps the calibrated activation ranges."""
    keep_float: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Operators that stay in float: layers by their names in the network, such as `stem.conv`; sums and means by
    their names in its trace, such as `add_1`. A name that is not there is answered with all that are."""
    quantize_output: bool = False
    """Quantize the output of the last linear layer too. Off is more accurate and no slower: the integer GEMM
    writes floats itself."""
