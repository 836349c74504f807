import math

import pytest
import torch
from torch import nn

from compresslab.errors import ModelError
from compresslab.models import Mlp
from compresslab.quantization import QuantizerSettings, calibrate, convert, prepare
from compresslab.quantization.conversion import IntegerLayer, QuantizeDequantize
from compresslab.quantization.insertion import quantizers


def calibrated(network, images, **settings) -> nn.Module:
    prepared = prepare(network, images, QuantizerSettings(**settings))
    calibrate(prepared, [images])
    return prepared


def layers(converted: nn.Module) -> dict[str, IntegerLayer]:
    return {name: part for name, part in converted.named_modules() if isinstance(part, IntegerLayer)}


@pytest.mark.parametrize("learn_scales", [False, True])
@pytest.mark.parametrize("name", ["residual", "vgg", "mobile"])
def test_the_converted_network_computes_what_was_simulated(name, learn_scales, build, images):
    prepared = calibrated(build(name), images, learn_scales=learn_scales)
    with torch.no_grad():
        expected, found = prepared(images), convert(prepared)(images)
    # A value halfway between two steps may end on the other one: torch's kernels multiply where ONNX's divide.
    assert (found - expected).abs().max() < 0.02 * expected.abs().max()
    assert (found - expected).abs().median() < 1e-5


def test_weights_are_integers_and_nothing_float_of_their_size_is_left(build, images):
    converted = convert(calibrated(build("residual"), images))
    found = layers(converted)
    assert set(found) == {
        "stem.0", "stages.0.0.conv1", "stages.0.0.conv2",
        "stages.1.0.conv1", "stages.1.0.conv2", "stages.1.0.shortcut.0", "head",
    }  # fmt: skip
    for layer in found.values():
        assert layer.weight.dtype == torch.int8
        assert layer.weight.abs().amax() == 127
    assert all(tensor.dim() <= 1 for tensor in converted.state_dict().values() if tensor.is_floating_point())


def test_only_the_layer_that_writes_floats_has_an_integer_bias(build, images):
    found = layers(convert(calibrated(build("vgg"), images)))
    assert {name for name, layer in found.items() if layer.bias.dtype == torch.int32} == {"head"}
    assert {layer.bias.dtype for name, layer in found.items() if name != "head"} == {torch.float32}


def test_the_integer_bias_has_the_scale_of_input_and_weights(build, images):
    """Any other scale is refused by the integer GEMM, or gives wrong sums."""
    prepared = calibrated(build("vgg"), images)
    head = layers(convert(prepared))["head"]
    input_scale = dict(quantizers(prepared))["relu_2"].grid[0]
    assert head.bias_scale is not None
    torch.testing.assert_close(head.bias_scale, head.scale * input_scale)
    original = prepared.get_parameter("head.layer.bias")
    assert (head.bias * head.bias_scale - original).abs().max() <= head.bias_scale.max() / 2


def test_relus_are_absorbed_by_their_quantizers(build, images):
    for name in ("residual", "vgg", "mobile"):
        converted = convert(calibrated(build(name), images))
        assert not any(isinstance(part, nn.ReLU | nn.ReLU6) for part in converted.modules())
        assert not any("relu" in str(node.target) for node in converted.graph.nodes if node.op == "call_function")


def test_a_learned_range_ends_where_its_clamp_does(build, images):
    """Beyond six, ReLU6 would have to stay between the convolution and its quantizer, and the convolution in float."""
    network = build("mobile")
    with torch.no_grad():
        network.stem[1].weight.fill_(20.0)  # so that six is reached
    prepared = calibrated(network, images, observer="minmax", learn_scales=True)
    quantizer = dict(quantizers(prepared))["stem_2"]
    nn.init.constant_(quantizer.log_gain, 0.5)
    assert 255 * quantizer.grid[0] == pytest.approx(6.0)
    converted = convert(prepared)
    assert not any(isinstance(part, nn.ReLU6) for part in converted.modules())
    with torch.no_grad():
        expected, found = prepared(images), converted(images)
    assert (found - expected).abs().max() < 0.02 * expected.abs().max()
    nn.init.constant_(quantizer.log_gain, -0.5)
    assert 255 * quantizer.grid[0] == pytest.approx(6.0 * math.exp(-0.5)), "it may still shrink"


def test_the_argument_can_still_be_trained(build, images):
    """`auto` converts after calibration and goes on training the same network."""
    prepared = calibrated(build("residual"), images).train()
    before = prepared(images)
    assert not convert(prepared).training
    assert prepared.training
    assert torch.equal(prepared(images), before)
    before.sum().backward()
    assert all(parameter.grad is not None for parameter in prepared.parameters())


def test_constants_are_those_of_the_quantizer(build, images):
    prepared = calibrated(build("vgg"), images)
    converted = convert(prepared)
    for name, quantizer in quantizers(prepared):
        part = converted.get_submodule(f"quantizers.{name}")
        assert isinstance(part, QuantizeDequantize)
        assert (part.scale, part.zero_point) == quantizer.grid


def test_before_calibration(build, images):
    with pytest.raises(ModelError, match=r"5 quantizers have no range yet, such as `x`; call `calibrate` first"):
        convert(prepare(build("vgg"), images, QuantizerSettings()))


def test_a_network_that_was_not_prepared(build):
    with pytest.raises(ModelError, match="VggLike has no quantizers to convert; call `prepare` first"):
        convert(build("vgg"))


@pytest.fixture
def rows():
    return torch.randn(256, 6, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("learn_scales", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_units_become_part_of_the_last_layer(activation, learn_scales, rows):
    """Else its integer kernel would be followed by two operators in float."""
    torch.manual_seed(0)
    network = Mlp(widths=(16, 8), activation=activation).build(1, 6, center=-300.0, scale=25.0).eval()
    prepared = calibrated(network, rows, learn_scales=learn_scales)
    converted = convert(prepared)
    assert [node.op for node in converted.graph.nodes][-2:] == ["call_module", "output"]
    with torch.no_grad():
        expected, found = prepared(rows), converted(rows)
        floating = network(rows)
    assert (found - expected).abs().max() < 0.02 * (expected.max() - expected.min())
    assert (found - floating).std() < 0.1 * floating.std()
    assert layers(converted)["head"].bias.dtype == torch.int32
    assert prepared.get_parameter("head.layer.bias").abs().max() < 1.0, "the argument is unchanged"


def test_the_answer_itself_is_not_quantized_for_being_in_other_units(rows):
    """256 steps would be all the answers there are."""
    network = Mlp(widths=(8,)).build(1, 6, center=7.0, scale=2.0)
    prepared = calibrated(network, rows)
    assert [name for name, _ in quantizers(prepared)] == ["features", "hidden_1"]
    assert len(convert(prepared)(rows).unique()) > 200


class Counted(nn.Module):
    """Whole numbers become floats on the way: what looks like the same call is another."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(6, 6), nn.Linear(6, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head((torch.relu(self.layer(x)) > 0.5).float())


def test_whole_numbers_still_become_floats(rows):
    torch.manual_seed(0)
    prepared = calibrated(Counted().eval(), rows)
    with torch.no_grad():
        assert (convert(prepared)(rows) - prepared(rows)).abs().max() < 0.02


class Twice(nn.Module):
    """A layer that is called twice, once with other units."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(torch.relu(self.layer(x))) * 3.0


def test_a_layer_that_is_called_twice_keeps_its_weights(rows):
    torch.manual_seed(0)
    prepared = calibrated(Twice().eval(), rows)
    with torch.no_grad():
        expected, found = prepared(rows), convert(prepared)(rows)
    assert (found - expected).abs().max() < 0.02 * expected.abs().max()
