"""AdaRound: each weight is rounded up or down, whichever leaves the layer's result closer to what it was.

Source: Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization", ICML 2020, arXiv 2004.10568: the
rectified sigmoid of eq. 22-24, the annealed regularizer, and the asymmetric reconstruction (quantized inputs, float
results). Far fewer steps than their 10,000, each on a part of the calibration inputs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from compresslab.quantization.fake_quant import WEIGHT_RANGE
from compresslab.quantization.layers import QuantizedLayer, layer_function

if TYPE_CHECKING:
    from collections.abc import Sequence

_STRETCH_LOW, _STRETCH_HIGH = -0.1, 1.1
_REGULARIZER = 0.01
_WARM_UP = 0.2
_SHARPNESS = (20.0, 2.0)
_LEARNING_RATE = 0.01
_IMAGES_PER_STEP, _ROWS_PER_STEP = 32, 256
_SEED = 0


def round_adaptively(
    quantized: QuantizedLayer, inputs: Sequence[Tensor], expected: Sequence[Tensor], steps: int
) -> None:
    """Puts the layer's weights, in place, on the points of their grid that serve it best.

    The largest weight of each channel keeps its place, as the scale follows it; so rounding to the nearest, later,
    finds what was chosen here. The better of this and rounding to the nearest is kept.

    Args:
        quantized: A layer whose scales have not been trained.
        inputs: What it gets in the quantized network, [n, ...] each.
        expected: What it gave in the float network for the same.
        steps: Steps of Adam.
    """
    layer = quantized.layer
    compute = layer_function(layer)
    weight, bias = layer.weight.detach().clone(), layer.bias
    assert isinstance(weight, Tensor)
    assert bias is None or isinstance(bias, Tensor)
    scale = quantized.weights.scale(weight).detach().reshape(-1, *[1] * (weight.dim() - 1))
    lower = (weight / scale).floor()
    rest = weight / scale - lower
    fixed = (weight / scale).abs() >= WEIGHT_RANGE[1] - 1e-3
    nearest = torch.where(fixed, (weight / scale).round(), lower + (rest >= 0.5))
    inside = ((rest - _STRETCH_LOW) / (_STRETCH_HIGH - _STRETCH_LOW)).clamp(0.01, 0.99)
    choice = torch.logit(inside).requires_grad_()
    if isinstance(layer, nn.Linear):
        # Rows alone, as texts of different batches may differ in length.
        inputs, expected = ([value.flatten(0, -2) for value in values] for values in (inputs, expected))
    all_inputs, targets = torch.cat(list(inputs)), torch.cat(list(expected))
    per_step = _ROWS_PER_STEP if isinstance(layer, nn.Linear) else _IMAGES_PER_STEP
    spread = float(targets.var().clamp_min(1e-12))
    optimizer = torch.optim.Adam([choice], _LEARNING_RATE)
    generator = torch.Generator().manual_seed(_SEED)
    with torch.enable_grad():
        for step in range(steps):
            picked = torch.randperm(len(all_inputs), generator=generator)[:per_step]
            up = _rectified(choice)
            on_grid = torch.where(fixed, nearest, lower + up).clamp(*WEIGHT_RANGE) * scale
            loss = (compute(all_inputs[picked], on_grid, bias) - targets[picked]).square().mean() / spread
            done = step / steps
            if done >= _WARM_UP:
                progress = (done - _WARM_UP) / (1 - _WARM_UP)
                sharpness = _SHARPNESS[0] + (_SHARPNESS[1] - _SHARPNESS[0]) * progress
                loss = loss + _REGULARIZER * (1 - (2 * up - 1).abs().pow(sharpness)).mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    with torch.no_grad():
        chosen = torch.where(fixed, nearest, lower + (_rectified(choice) >= 0.5)).clamp(*WEIGHT_RANGE)
        errors = [
            float((compute(all_inputs, integers * scale, bias) - targets).square().mean())
            for integers in (nearest, chosen)
        ]
        layer.weight.copy_((chosen if errors[1] < errors[0] else nearest) * scale)


def _rectified(choice: Tensor) -> Tensor:
    """0 for down, 1 for up, and what lies between while it is undecided."""
    return (torch.sigmoid(choice) * (_STRETCH_HIGH - _STRETCH_LOW) + _STRETCH_LOW).clamp(0, 1)
