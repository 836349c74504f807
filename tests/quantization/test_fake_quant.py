"""Against values and gradients worked out by hand."""

import math

import pytest
import torch
from torch import nn

from compresslab.quantization.fake_quant import ActivationQuantizer, WeightQuantizer, affine
from compresslab.quantization.observers import MinMax


def quantizer(scale: float, zero_point: int, *, learn: bool = False) -> ActivationQuantizer:
    made = ActivationQuantizer(MinMax(), learn_scale=learn)
    made.load_state_dict(
        {**made.state_dict(), "scale": torch.tensor(scale), "zero_point": torch.tensor(float(zero_point))}
    )
    assert made.freeze()
    return made


@pytest.mark.parametrize("learn", [False, True])
def test_values_by_hand(learn):
    # The grid is -0.5, -0.25, 0, ..., 63.25. Halves of a step round to even: 0.125 -> 0, 0.375 -> 0.5.
    x = torch.tensor([-9.0, -0.5, -0.13, 0.125, 0.375, 1.0, 70.0])
    expected = torch.tensor([-0.5, -0.5, -0.25, 0.0, 0.5, 1.0, 63.25])
    torch.testing.assert_close(quantizer(0.25, 2, learn=learn)(x), expected, rtol=0, atol=0)


@pytest.mark.parametrize("learn", [False, True])
def test_the_gradient_passes_the_rounding_and_stops_outside_the_range(learn):
    x = torch.tensor([-9.0, -0.5, 0.1, 63.2, 70.0], requires_grad=True)
    quantizer(0.25, 2, learn=learn)(x).backward(torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]))
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 2.0, 3.0, 4.0, 0.0]


def test_the_gradient_of_a_learned_scale():
    learned = quantizer(0.5, 1, learn=True)
    # x / s = 0.8 and 2.0: rounding errors 0.2 and 0. Below the range: -1 step. Above it: 255 - 1 steps.
    learned(torch.tensor([0.4, 1.0, -7.0, 500.0])).sum().backward()
    by_scale = (1 - 0.8) + 0.0 - 1.0 + 254.0
    # With scale = 0.5 * exp(log_gain), d/dlog_gain = d/dscale * scale.
    assert learned.log_gain is not None
    assert learned.log_gain.grad is not None
    assert float(learned.log_gain.grad) == pytest.approx(by_scale * 0.5, rel=1e-5)


def test_a_learned_scale_lowers_the_error():
    """Fails if the sign of the scale's gradient is wrong."""
    x = torch.linspace(0, 1, 1000)
    learned = quantizer(0.004 * 3, 0, learn=True)  # three times too coarse
    optimizer = torch.optim.Adam(learned.parameters(), 0.05)
    before = (learned(x) - x).square().mean().item()
    for _ in range(60):
        optimizer.zero_grad()
        (learned(x) - x).square().mean().backward()
        optimizer.step()
    assert (learned(x) - x).square().mean().item() < before / 2


def test_a_learned_scale_stays_in_proportion():
    learned = quantizer(0.5, 0, learn=True)
    assert learned.log_gain is not None
    nn.init.constant_(learned.log_gain, 100.0)
    assert learned.grid[0] == pytest.approx(0.5 * math.exp(2))


def test_weights_by_hand():
    # One scale a row: 127 / 127 = 1, and 0.254 / 127 = 0.002.
    weight = torch.tensor([[127.0, -3.4, 0.5], [0.254, -0.254, 0.0031]])
    quantized = WeightQuantizer(2, learn_scale=False)
    assert quantized.integers(weight).tolist() == [[127, -3, 0], [127, -127, 2]]
    assert quantized.integers(weight).dtype == torch.int8
    expected = torch.tensor([[127.0, -3.0, 0.0], [0.254, -0.254, 0.004]])
    torch.testing.assert_close(quantized(weight), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("learn", [False, True])
def test_the_integers_are_what_the_simulation_computes_with(learn):
    weight = torch.randn(5, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    quantized = WeightQuantizer(5, learn_scale=learn)
    if quantized.log_gain is not None:
        nn.init.constant_(quantized.log_gain, -0.5)  # clips
    restored = quantized.integers(weight).float() * quantized.scale(weight).reshape(-1, 1, 1, 1)
    torch.testing.assert_close(restored, quantized(weight), rtol=1e-5, atol=1e-7)


def test_the_gradient_of_weights_passes():
    weight = torch.randn(3, 4, requires_grad=True)
    WeightQuantizer(3, learn_scale=False)(weight).sum().backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == torch.ones(3, 4).tolist()


def test_a_channel_of_zeros_stays_zero():
    quantized = WeightQuantizer(1, learn_scale=False)(torch.zeros(1, 4))
    assert quantized.tolist() == [[0.0] * 4]


@pytest.mark.parametrize("learn", [False, True])
def test_steps_survive_a_bfloat16_autocast(learn):
    """255 steps near 1 cannot be told apart in bfloat16: it must compute in float32."""
    x = (torch.arange(200, 256) / 255).to(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        out = quantizer(1 / 255, 0, learn=learn)(x)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out * 255, (x.float() * 255).round(), rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("low", "high", "scale", "zero_point"),
    [
        (0.0, 2.55, 0.01, 0),
        (-1.0, 1.55, 0.01, 100),
        (1.0, 2.55, 0.01, 0),
        (-2.55, -1.0, 0.01, 255),
        (0.0, 0.0, 1 / 255, 0),
    ],
)
def test_affine_by_hand(low, high, scale, zero_point):
    """A range beside zero is widened to hold it, so that padding is exact."""
    found = affine(low, high)
    assert found[0] == pytest.approx(scale)
    assert found[1] == zero_point


def test_averaging_the_weights_leaves_the_zero_point_exact():
    """An integer buffer would be truncated: 0.999 * 128 + 0.001 * 128 = 127."""
    network = quantizer(0.1, 128)
    average = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.999), use_buffers=True
    )
    for _ in range(10):
        average.update_parameters(network)
    assert average.module.grid == network.grid
