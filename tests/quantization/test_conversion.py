import pytest
import torch
from torch import nn

from compresslab.errors import ModelError
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


def test_a_clamp_below_the_end_of_the_grid_stays(build, images):
    """A learned range may grow beyond six: without its clamp, ReLU6 would be a ReLU."""
    network = build("mobile")
    with torch.no_grad():
        network.stem[1].weight.fill_(20.0)  # so that six is reached
    prepared = calibrated(network, images, observer="minmax", learn_scales=True)
    nn.init.constant_(dict(quantizers(prepared))["stem_2"].log_gain, 0.5)
    converted = convert(prepared)
    assert isinstance(converted.get_submodule("stem.2"), nn.ReLU6)
    with torch.no_grad():
        expected, found = prepared(images), converted(images)
    assert (found - expected).abs().max() < 0.02 * expected.abs().max()


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
