import pytest
import torch
from torch import Tensor, nn

from compresslab.quantization import QuantizerSettings, calibrate, prepare
from compresslab.quantization.equalization import equalize
from compresslab.quantization.insertion import QuantizedLayer

SETTINGS = QuantizerSettings(smoothing=0.0, correct_biases=False)


def in_float(prepared: nn.Module) -> nn.Module:
    """The weights' own rounding out of the way; quantizers only observe."""
    for part in prepared.modules():
        if isinstance(part, QuantizedLayer):
            part.weights = nn.Identity()
    return prepared


def test_two_layers_by_hand():
    """Channel ranges 8 and 2 before, 2 and 8 after: both become 4, by factors of two and a half."""
    network = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[8.0], [-2.0]]))
        network[0].bias.copy_(torch.tensor([2.0, 1.0]))
        network[2].weight.copy_(torch.tensor([[2.0, -8.0]]))
    prepared = prepare(network, torch.randn(4, 1), SETTINGS)
    assert equalize(prepared, []) == 1
    assert prepared.get_parameter("0.layer.weight").tolist() == [[4.0], [-4.0]]
    assert prepared.get_parameter("0.layer.bias").tolist() == [1.0, 2.0]
    assert prepared.get_parameter("2.layer.weight").tolist() == [[4.0, -4.0]]


def unbalanced(network: nn.Module) -> nn.Module:
    """The same function, but for its ReLU6s, with channels of sizes between a hundredth and a hundred."""
    generator = torch.Generator().manual_seed(5)
    for first, second in ((network.expand, network.depthwise), (network.depthwise, network.project)):
        factor = 10 ** (4 * torch.rand(32, generator=generator) - 2)
        weight = second[0].weight
        with torch.no_grad():
            first[1].weight.mul_(factor)
            first[1].bias.mul_(factor)
            weight.div_(factor.reshape((-1, 1, 1, 1) if weight.shape[1] == 1 else (1, -1, 1, 1)))
    return network


def with_relu(network: nn.Module) -> nn.Module:
    for part in (network.expand, network.depthwise):
        part[2] = nn.ReLU()
    return network


@pytest.mark.parametrize("bounded", [False, True])
def test_the_float_network_gives_what_it_gave(bounded, build, images):
    """Depthwise chains too; ReLU6 clips what it clipped, on the inputs that were seen."""
    network = build("mobile") if bounded else unbalanced(with_relu(build("mobile")))
    if bounded:
        with torch.no_grad():
            network.expand[1].weight.mul_(torch.linspace(0.05, 8, 32))
        values = network.expand(network.stem(images)).amax((0, 2, 3))
        assert (values == 6).any()
        assert (values < 6).any()
    prepared = in_float(prepare(network, images, SETTINGS))
    before = {name: value.clone() for name, value in prepared.named_parameters()}
    expected = network(images).detach()
    assert equalize(prepared, images.split(16)) == 2
    assert any(not torch.equal(value, before[name]) for name, value in prepared.named_parameters())
    torch.testing.assert_close(prepared(images), expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


def test_it_rescues_channels_of_unlike_size(build, images):
    """One uint8 scale for values of 0.01 and of 100 leaves nothing of the former."""
    network = unbalanced(with_relu(build("mobile")))
    expected = network(images).detach()
    errors = {}
    for on in (False, True):
        prepared = prepare(network, images, QuantizerSettings(smoothing=0.0, correct_biases=False, equalize=on))
        calibrate(prepared, [images])
        errors[on] = float((prepared(images).detach() - expected).square().mean() / expected.square().mean())
    assert errors[True] < 0.01
    assert errors[True] < 0.1 * errors[False]


class Forked(nn.Module):
    """What the first layer gives is read twice: nothing may be moved."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        return self.second(x) + x


def test_a_value_that_is_read_twice():
    assert equalize(prepare(Forked(), torch.randn(4, 4), SETTINGS), []) == 0


def test_gelu_lets_no_factor_through():
    network = nn.Sequential(nn.Linear(4, 4), nn.GELU(), nn.Linear(4, 4))
    assert equalize(prepare(network, torch.randn(4, 4), SETTINGS), []) == 0
