import pytest
import torch
from torch import Tensor, nn

from compresslab.errors import DataError, ModelError
from compresslab.quantization import QuantizerSettings, calibrate, prepare
from compresslab.quantization.insertion import quantizers

OBSERVERS = ["minmax", "moving_average", "percentile", "entropy", "mse"]


@pytest.fixture
def prepared(build, images) -> nn.Module:
    return prepare(build("residual"), images, QuantizerSettings())


@pytest.mark.parametrize("observer", OBSERVERS)
@pytest.mark.parametrize("learn_scales", [False, True])
def test_a_calibrated_network_stays_close_to_the_float_one(observer, learn_scales, build, images):
    settings = QuantizerSettings(observer=observer, percentile=99.999, learn_scales=learn_scales)
    network = build("residual")
    prepared = prepare(network, images, settings)
    calibrate(prepared, images.split(16))
    assert not prepared.training
    with torch.no_grad():
        expected, found = network(images), prepared(images)
    assert (found - expected).square().mean() < 0.001 * expected.square().mean()
    assert not torch.equal(found, expected)


def test_every_quantizer_is_set(prepared, images):
    calibrate(prepared, [images])
    assert all(part.calibrated and part.observer is None for _, part in quantizers(prepared))


def test_calibration_is_deterministic(build, images):
    states = []
    for _ in range(2):
        prepared = prepare(build("mobile"), images, QuantizerSettings())
        calibrate(prepared, images.split(16))
        states.append(prepared.state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.parametrize("learn_scales", [False, True])
def test_a_calibrated_network_can_be_trained(learn_scales, build, images):
    """Quantization-aware training is training: under bfloat16, every parameter gets a gradient, and the loss falls."""
    prepared = prepare(build("residual"), images, QuantizerSettings(learn_scales=learn_scales))
    calibrate(prepared, [images])
    prepared.train()
    targets = torch.arange(64) % 3
    optimizer = torch.optim.SGD(prepared.parameters(), 0.05)
    losses = []
    for _ in range(8):
        with torch.autocast("cpu", torch.bfloat16):
            outputs = prepared(images)
        loss = nn.functional.cross_entropy(outputs.float(), targets)
        optimizer.zero_grad()
        loss.backward()
        assert all(parameter.grad is not None for parameter in prepared.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_the_state_carries_over(build, images):
    """As a checkpoint does in the middle of training."""
    first, second = (prepare(build("mobile"), images, QuantizerSettings(learn_scales=True)) for _ in range(2))
    calibrate(first, [images])
    calibrate(second, [images * 3])
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(images), second(images))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_inputs_that_are_not_finite(value, prepared, images):
    broken = images.clone()
    broken[5, 0, 2, 2] = value
    with pytest.raises(DataError, match=r"batch 1 holds NaN or infinity, first in example 5"):
        calibrate(prepared, [images, broken])


def test_inputs_that_are_all_alike(prepared):
    with pytest.raises(DataError, match=r"all 8 calibration inputs hold the one value 0\.5"):
        calibrate(prepared, [torch.full((4, 1, 8, 8), 0.5)] * 2)


def test_no_batches(prepared):
    with pytest.raises(DataError, match="no calibration batches"):
        calibrate(prepared, [])


def test_inputs_of_another_shape(prepared):
    with pytest.raises(DataError, match=r"batch 0 of shape \(2, 3, 8, 8\) does not fit the network"):
        calibrate(prepared, [torch.randn(2, 3, 8, 8)])


def test_raw_pixels(prepared):
    with pytest.raises(DataError, match=r"batch 0 is torch\.uint8.*preprocessed"):
        calibrate(prepared, [torch.zeros(2, 1, 8, 8, dtype=torch.uint8)])


def test_a_network_that_was_not_prepared(build, images):
    with pytest.raises(ModelError, match="call `prepare` first"):
        calibrate(build("vgg"), [images])


def test_calibrating_twice(prepared, images):
    calibrate(prepared, [images])
    with pytest.raises(ModelError, match="call `prepare` first, and `calibrate` once"):
        calibrate(prepared, [images])


class Overflowing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 2, 1), nn.Conv2d(2, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.exp(self.first(x) * 1e6))


def test_a_network_that_overflows_inside(images):
    prepared = prepare(Overflowing(), images, QuantizerSettings())
    with pytest.raises(ModelError, match="gives NaN or infinity at `exp`"):
        calibrate(prepared, [images])


def test_token_ids(build, ids):
    prepared = prepare(build("bert"), ids, QuantizerSettings())
    with pytest.raises(DataError, match=r"batch 0 is torch\.float32.*whole numbers"):
        calibrate(prepared, [ids.float()])
    with pytest.raises(DataError, match="does not fit the network: index out of range"):
        calibrate(prepared, [ids + 1000])
    with pytest.raises(DataError, match="hold the one value 3"):
        calibrate(prepared, [torch.full((4, 12), 3)])
