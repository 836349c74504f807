"""Quantization simulated in float, with gradients that ignore the rounding.

The arithmetic is that of ONNX: `q = clamp(round_half_even(x / scale) + zero_point, low, high)`, and back as
`(q - zero_point) * scale`. It is always computed in float32, also under a bfloat16 autocast: the eight bits of a
bfloat16 significand cannot tell neighbouring steps apart.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from compresslab.quantization.observers import Observer

ACTIVATION_RANGE = (0, 255)
# Without VNNI, x86 kernels add two products in 16 bits, and saturate beyond -64..63: export's parity check tells.
WEIGHT_RANGE = (-127, 127)
_SMALLEST_SCALE = 1e-8
_LARGEST_LOG_GAIN = 2.0


class _LearnedStep(torch.autograd.Function):
    """Fake quantization whose scale has a gradient too.

    `axis` is the dimension that `scale` runs along, or None for one scale. Source: Esser et al., "Learned Step Size
    Quantization", ICLR 2020, eq. 1-3, without their gradient scaling: see `_gain`.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero_point: int, low: int, high: int, axis: int | None) -> Tensor:
        step = scale if axis is None else scale.reshape([-1 if dim == axis else 1 for dim in range(x.dim())])
        ratio = x / step
        rounded = ratio.round()
        inside = (rounded >= low - zero_point) & (rounded <= high - zero_point)
        rounded.clamp_(low - zero_point, high - zero_point)
        ctx.save_for_backward(inside, torch.where(inside, rounded - ratio, rounded))
        ctx.axis = axis
        return rounded.mul_(step)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None, None]:
        inside, slope = ctx.saved_tensors
        (gradient,) = gradients
        weighted = gradient * slope
        others = [dim for dim in range(slope.dim()) if dim != ctx.axis]
        for_scale = weighted.sum() if ctx.axis is None else weighted.sum(others)
        return gradient * inside, for_scale, None, None, None, None


class ActivationQuantizer(nn.Module):
    """One uint8 scale and zero point for a whole tensor.

    It begins by observing (the tensor passes unchanged); after `freeze` it fake-quantizes. A scale that is NaN
    has been set neither by calibration nor from a state dict.

    Args:
        observer: Finds the range; dropped by `freeze`.
        learn_scale: Train a factor on the scale. The zero point stays.
        bounds: Of the clamp before it, which the range may not leave: within them the grid does the clamping, and
            beyond them no integer kernel could.
    """

    scale: Tensor
    zero_point: Tensor

    def __init__(self, observer: Observer, *, learn_scale: bool, bounds: tuple[float, float] | None = None) -> None:
        super().__init__()
        self.observer: Observer | None = observer
        self._bounds = bounds or (-math.inf, math.inf)
        self.log_gain = nn.Parameter(torch.tensor(0.0)) if learn_scale else None
        self.register_buffer("scale", torch.tensor(float("nan")))
        # Kept as float: a moving average of the weights would truncate an integer buffer.
        self.register_buffer("zero_point", torch.tensor(0.0))
        self._finite = True

    @property
    def calibrated(self) -> bool:
        """Whether the scale has been set, by `freeze` or from a state dict."""
        return bool(torch.isfinite(self.scale))

    def freeze(self) -> bool:
        """Turn the observed range into scale and zero point, and quantize from now on.

        Returns:
            Whether there is a range: False if NaN or infinity was seen, or nothing and no state dict set the scale.
        """
        if self.observer is not None and self.observer.seen and self._finite:
            scale, zero_point = affine(*self.observer.range())
            self.scale.fill_(scale)
            self.zero_point.fill_(zero_point)
        self.observer = None
        return self.calibrated

    @property
    def grid(self) -> tuple[float, int]:
        """Scale and zero point, as they are now."""
        return float(self._trained_scale().detach()), int(self.zero_point)

    def forward(self, x: Tensor) -> Tensor:
        """float32 of the shape of `x`, on the grid unless still observing."""
        if self.observer is not None:
            self._observe(self.observer, x.detach().float())
            return x
        if self.log_gain is not None:
            return _learned(x.float(), self._trained_scale(), int(self.zero_point), ACTIVATION_RANGE, None)
        return torch.fake_quantize_per_tensor_affine(x.float(), self.scale, self.zero_point.int(), *ACTIVATION_RANGE)

    def _trained_scale(self) -> Tensor:
        low, high = self._bounds
        below, above = ACTIVATION_RANGE[0] - float(self.zero_point), ACTIVATION_RANGE[1] - float(self.zero_point)
        largest = min(low / below if below < 0 else math.inf, high / above if above > 0 else math.inf)
        scale: Tensor = self.scale * _gain(self.log_gain)
        # Half a step beyond a bound rounds to it, and the calibrated scale may be there.
        return scale if math.isinf(largest) else torch.minimum(scale, self.scale.clamp_min(largest))

    def _observe(self, observer: Observer, x: Tensor) -> None:
        self._finite = self._finite and bool(torch.isfinite(x).all())
        if self._finite:
            observer.update(x)


class WeightQuantizer(nn.Module):
    """One symmetric int8 scale for each output channel, over the whole of -127..127.

    The scale follows the weights: the largest magnitude of a channel is always 127.

    Args:
        channels: Output channels: the first dimension of the weights.
        learn_scale: Train a factor on each scale.
    """

    def __init__(self, channels: int, *, learn_scale: bool) -> None:
        super().__init__()
        self.log_gain = nn.Parameter(torch.zeros(channels)) if learn_scale else None

    def scale(self, weight: Tensor) -> Tensor:
        """float32 [output channels], above zero."""
        return largest_magnitude_scale(weight.detach()) * _gain(self.log_gain)

    def forward(self, weight: Tensor) -> Tensor:
        """The weights on their grid, float32, with the gradient of `weight`."""
        weight = weight.float()
        scale = self.scale(weight)
        if self.log_gain is not None:
            return _learned(weight, scale, 0, WEIGHT_RANGE, 0)
        zero = torch.zeros_like(scale, dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, *WEIGHT_RANGE)

    def integers(self, weight: Tensor) -> Tensor:
        """int8 of the shape of `weight`."""
        weight = weight.detach().float()
        step = self.scale(weight).reshape(-1, *[1] * (weight.dim() - 1))
        return (weight / step).round().clamp(*WEIGHT_RANGE).to(torch.int8)


def largest_magnitude_scale(weight: Tensor) -> Tensor:
    """float32 [output channels]: the scale at which each channel's largest magnitude becomes 127."""
    return (weight.float().abs().flatten(1).amax(1) / WEIGHT_RANGE[1]).clamp_min(_SMALLEST_SCALE)


def affine(low: float, high: float) -> tuple[float, int]:
    """Scale and zero point of a uint8 range that holds `low`, `high`, and zero exactly.

    A range without width (a channel that is always zero) gets the scale of 0..1: any scale is as good.
    """
    bottom, top = ACTIVATION_RANGE
    low, high = min(low, 0.0), max(high, 0.0)
    if high - low < _SMALLEST_SCALE * (top - bottom):
        return 1.0 / (top - bottom), bottom
    scale = (high - low) / (top - bottom)
    return scale, max(bottom, min(top, round(bottom - low / scale)))


def _gain(log_gain: Tensor | None) -> Tensor | float:
    """What a learned scale is multiplied by; one where none is learned.

    Its logarithm is what is trained, so that one learning rate fits scales of any size: trained directly, under the
    learning rate of the weights, scales were seen to grow seventeenfold. Source: Jain et al., "Trained Quantization
    Thresholds", MLSys 2020. It is bounded because kernels refuse ratios of scales that are out of all proportion.
    """
    return 1.0 if log_gain is None else log_gain.clamp(-_LARGEST_LOG_GAIN, _LARGEST_LOG_GAIN).exp()


def _learned(x: Tensor, scale: Tensor, zero_point: int, limits: tuple[int, int], axis: int | None) -> Tensor:
    result: Tensor = _LearnedStep.apply(x, scale, zero_point, *limits, axis)  # type: ignore[no-untyped-call]
    return result
