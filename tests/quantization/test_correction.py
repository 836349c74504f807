import torch
from torch import nn

from compresslab.quantization import QuantizerSettings, calibrate, prepare
from compresslab.quantization.fake_quant import largest_magnitude_scale
from compresslab.quantization.layers import QuantizedLayer
from compresslab.quantization.rounding import round_adaptively


def calibrated(network: nn.Module, inputs: torch.Tensor, **settings) -> nn.Module:
    prepared = prepare(network, inputs, QuantizerSettings(smoothing=0.0, **settings))
    calibrate(prepared, inputs.split(16))
    return prepared


def test_a_bias_by_hand():
    """A weight of 0.3 steps rounds to zero: what it gave on average goes into the bias."""
    network = nn.Linear(2, 1, bias=False)
    inputs = torch.cat([torch.full((32, 1), 0.5), torch.linspace(0, 1, 32).unsqueeze(1)], 1)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[0.3, 127.0]]))
    prepared = calibrated(nn.Sequential(network), inputs, observer="minmax", correct_biases=True)
    with torch.no_grad():
        torch.testing.assert_close(prepared(inputs).mean(), network(inputs).mean())
    # The inputs' own rounding to 255 steps adds to it; its mean is nearly nothing.
    assert abs(prepared.get_parameter("0.layer.bias").item() - 0.3 * 0.5) < 0.15


def test_every_channel_mean_is_that_of_the_float_network(build, images):
    """Clipped hard, so that there is a mean error to correct; later layers see the corrected ones."""
    network = build("residual")
    means = {}
    for on in (False, True):
        prepared = calibrated(network, images, observer="percentile", percentile=90, correct_biases=on)
        with torch.no_grad():
            means[on] = float((prepared(images) - network(images)).mean(0).abs().max())
    assert means[True] < 1e-4
    assert means[False] > 100 * means[True]


def test_only_the_first_samples_are_kept(build, images):
    """What is beyond the number asked for is observed, and says nothing else."""
    states = []
    for inputs in ([images[:16]], [images[:16], images[:16]], [images[:10], images[:16]]):
        settings = QuantizerSettings(correction_samples=10, observer="minmax")
        prepared = prepare(build("residual"), images, settings)
        calibrate(prepared, inputs)
        states.append(prepared.state_dict())
    for state in states[1:]:
        assert all(torch.equal(states[0][key], state[key]) for key in states[0])


def rounded(weight: torch.Tensor, inputs: torch.Tensor, steps: int) -> tuple[nn.Linear, QuantizedLayer]:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    with torch.no_grad():
        layer.weight.copy_(weight)
    original = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    original.load_state_dict(layer.state_dict())
    quantized = QuantizedLayer(layer, learn_scales=False)
    with torch.no_grad():
        expected = original(inputs)
    round_adaptively(quantized, [inputs], [expected], steps)
    return original, quantized


def test_rounding_by_hand():
    """Inputs that are always alike: 0.45 and 0.35 steps go up and down, as their sum is nearer to one than to zero."""
    inputs = torch.randn(64, 1, generator=torch.Generator().manual_seed(0)).expand(64, 2)
    inputs = torch.cat([torch.zeros(64, 1), inputs], 1)
    _, quantized = rounded(torch.tensor([[127.0, 0.45, 0.35]]), inputs, 400)
    assert quantized.weights.integers(quantized.layer.weight)[0].tolist() == [127, 1, 0]


def test_rounding_moves_each_weight_to_a_neighbour_and_keeps_the_scales():
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(8, 12, generator=generator)
    mixing = torch.randn(12, 12, generator=generator)
    inputs = torch.randn(128, 12, generator=generator) @ mixing
    original, quantized = rounded(weight, inputs, 300)
    scale = largest_magnitude_scale(weight)
    torch.testing.assert_close(quantized.weights.scale(quantized.layer.weight), scale)
    steps = weight / scale.unsqueeze(1)
    integers = quantized.weights.integers(quantized.layer.weight).float()
    assert (integers - steps).abs().max() < 1.0
    nearest = steps.round() * scale.unsqueeze(1)
    with torch.no_grad():
        expected = original(inputs)
        plain = (inputs @ nearest.T - expected).square().mean()
        adapted = (quantized(inputs) - expected).square().mean()
    assert adapted < 0.8 * plain


def test_a_network_rounded_adaptively(build, images):
    """The whole way, on a net with three layers; what is kept is never worse, layer by layer."""
    network, errors = build("mobile"), {}
    for rounding in ("nearest", "adaround"):
        prepared = calibrated(network, images, rounding=rounding, rounding_steps=60, correct_biases=False)
        with torch.no_grad():
            errors[rounding] = float((prepared(images) - network(images)).square().mean())
    assert errors["adaround"] < errors["nearest"]


def test_texts_of_different_lengths(build, ids):
    """Batches that cannot be joined are rounded and corrected all the same."""
    prepared = prepare(build("bert"), ids, QuantizerSettings(rounding="adaround", rounding_steps=3))
    calibrate(prepared, [ids[:8], ids[8:16, :7]])
    with torch.no_grad():
        expected, found = build("bert")(ids), prepared(ids)
    assert (found - expected).square().mean() < 0.01 * expected.square().mean()
