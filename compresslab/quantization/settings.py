"""What can be chosen about our own Q/DQ path; the same for calibration and for training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from compresslab.settings import Settings

ObserverName = Literal["minmax", "moving_average", "percentile", "entropy", "mse"]


class QuantizerSettings(Settings):
    """uint8 per-tensor affine activations and int8 per-channel symmetric weights: what ONNX Runtime runs fast."""

    observer: ObserverName = "mse"
    """How the range of an activation is found: its extremes (`minmax`), their mean over the batches
    (`moving_average`), all but the outermost values (`percentile`), the distribution on the grid most like that of the
    values (`entropy`), or the least squared error (`mse`)."""
    percentile: float = Field(99.99, gt=50, le=100)
    """Share of the values, in per cent, that stays inside the range; only `percentile` reads it."""
    momentum: float = Field(0.1, gt=0, le=1)
    """Weight of the newest batch; only `moving_average` reads it."""
    learn_scales: bool = False
    """Train a factor on every scale beside the weights; else QAT keeps the calibrated activation ranges."""
    equalize: bool = False
    """Before calibration, balance the weights of layers with only a ReLU between them (cross-layer equalization). It
    rescues a network whose channels are of unlike size; trained as usual, with a scale for each output channel of the
    weights, small nets were seen to lose one to two decibels by it."""
    smoothing: float = Field(0.5, ge=0, le=1)
    """Before calibration, move this share of the outliers behind a LayerNorm into the weights that read them
    (SmoothQuant); 0 for none."""
    rounding: Literal["nearest", "adaround"] = "nearest"
    """Of weights: to the nearest step, or up or down as serves the layer's result best, which takes `rounding_steps`
    training steps for each layer."""
    rounding_steps: int = Field(500, ge=1)
    """Steps for each layer; only `adaround` reads it."""
    correct_biases: bool = True
    """After calibration, take the mean error of every channel out of the bias."""
    correction_samples: int = Field(64, ge=1)
    """How many of the calibration samples these methods see. What they give at one point of the network is in memory
    at once, in float and quantized: some hundred MB for images of 224 pixels."""
    attention: Literal["float", "int8"] = "float"
    """The products of two computed matrices. They have integer kernels, which were seen to take as long as float ones
    (0.14 ms against 0.15 for 3 heads, 197 positions of 64; 0.022 against 0.018 for 12 heads, 32 positions of 32) and to
    lose a decibel on a small trained ViT, as most of a softmax over many positions lies below one step of 1/255."""
    keep_float: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Operators that stay in float: layers and embeddings by their names in the network, such as `stem.conv`; sums,
    products, concatenations and means by their names in its trace, such as `add_1`. A name that is not there is
    answered with all that are."""
    only: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Operators to quantize, by the same names, all others staying in float; empty for all that have an integer
    kernel."""
    quantize_output: bool = False
    """Quantize the output of the last linear layer too. Off is more accurate and no slower: the integer GEMM
    writes floats itself."""
