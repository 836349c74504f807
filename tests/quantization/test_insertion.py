"""Where quantizers go, on the kinds of network that people bring."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from compresslab.errors import ModelError
from compresslab.quantization import QuantizerSettings, calibrate, convert, prepare
from compresslab.quantization.insertion import QuantizedLayer, quantizers

SETTINGS = QuantizerSettings()


def names(network: nn.Module, images: Tensor, settings: QuantizerSettings = SETTINGS) -> list[str]:
    return [name for name, _ in quantizers(prepare(network, images, settings))]


def test_a_residual_network(build, images):
    """The input, each ReLU that follows a convolution or a sum, both operands of a sum, the mean; not the logits."""
    assert names(build("residual"), images) == [
        "images", "stem_2",
        "stages_0_0_relu1", "stages_0_0_conv2", "stages_0_0_relu2",
        "stages_1_0_relu1", "stages_1_0_conv2", "stages_1_0_shortcut_0", "stages_1_0_relu2",
        "mean",
    ]  # fmt: skip


def test_a_plain_network(build, images):
    """Max pooling, flatten and dropout lie on the grid of what they got: no quantizer of their own."""
    assert names(build("vgg"), images) == ["x", "relu", "relu_1", "avg_pool2d", "relu_2"]


def test_a_mobile_network(build, images):
    assert names(build("mobile"), images) == [
        "x", "stem_2", "expand_2", "depthwise_2", "project_0", "add", "pool"
    ]  # fmt: skip


def test_a_gated_network(build, images):
    """The gate's convolutions, what it multiplies, and the product; the sigmoid stays between two quantizers."""
    assert names(build("gated"), images) == [
        "x", "stem_0", "stem_2", "depthwise_2", "mean", "relu", "excite", "sigmoid", "mul", "project_0", "add", "mean_1"
    ]  # fmt: skip


def test_what_is_concatenated_shares_one_quantizer(build, images):
    """With one scale, a concatenation copies bytes. The first one is an operand of the second."""
    prepared = prepare(build("dense"), images, SETTINGS)
    assert [name for name, _ in quantizers(prepared)] == ["x", "relu", "relu_1", "pool", "mean"]
    calls = [node for node in prepared.graph.nodes if node.target == "quantizers.relu"]
    assert [node.all_input_nodes[0].name for node in calls] == ["relu", "first_2", "cat", "second_2", "cat_1"]
    calibrate(prepared, [images])
    with torch.no_grad():
        assert (prepared(images) - build("dense")(images)).abs().max() < 0.1


def test_the_residual_stream_of_a_transformer_stays_float(build, images):
    """Only normalizations read it: quantizing it would lose precision and win no kernel."""
    prepared = prepare(build("vit"), images, SETTINGS)
    quantized = [node.all_input_nodes[0] for node in prepared.graph.nodes if str(node.target).startswith("quantizers.")]
    assert [str(node.target) for node in quantized] == [
        "x", "patches",
        "blocks.0.norm1", "aten.reshape.default", "blocks.0.norm2", "aten.gelu.default",
        "blocks.1.norm1", "aten.reshape.default", "blocks.1.norm2", "aten.gelu.default",
        "aten.select.int",
    ]  # fmt: skip
    readers = [str(user.target) for node in quantized for user in node.users]
    assert not any("add" in reader for reader in readers)


def test_only_the_layers_named(build, images):
    prepared = prepare(build("vgg"), images, QuantizerSettings(only=["hidden"]))
    assert [name for name, part in prepared.named_modules() if isinstance(part, QuantizedLayer)] == ["hidden"]


@pytest.mark.parametrize("key", ["only", "keep_float"])
def test_a_named_operator_without_integer_kernel(key, build, images):
    with pytest.raises(ModelError, match=rf"{key}: `norm` is a LayerNorm, which has no integer kernel.*blocks\.0\.qkv"):
        prepare(build("vit"), images, QuantizerSettings(**{key: ["norm"]}))


def test_the_output_is_quantized_on_request(build, images):
    assert names(build("vgg"), images, QuantizerSettings(quantize_output=True))[-1] == "head"


@pytest.mark.parametrize("name", ["residual", "vgg", "mobile"])
def test_observing_changes_nothing_but_folds_every_normalization(name, build, images):
    network = build(name)
    prepared = prepare(network, images, SETTINGS)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in prepared.modules())
    layers = [part for part in prepared.modules() if isinstance(part, QuantizedLayer)]
    for layer in layers:  # the weights' own rounding out of the way
        layer.weights = nn.Identity()
    torch.testing.assert_close(prepared(images), network(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["residual", "vgg", "mobile"])
def test_the_argument_is_left_alone(name, build, images):
    network = build(name).train()
    before = copy.deepcopy(network.state_dict())
    prepare(network, images, SETTINGS)
    assert all(part.training for part in network.modules())
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_folded_biases_can_be_trained(build, images):
    """torch's fusion freezes the bias of a layer that had none: QAT would never correct a shift."""
    prepared = prepare(build("residual"), images, SETTINGS)
    frozen = [name for name, parameter in prepared.named_parameters() if not parameter.requires_grad]
    assert frozen == []


def test_frozen_layers_stay_frozen(build, images):
    network = build("residual")
    network.stem.requires_grad_(False)
    prepared = prepare(network, images, SETTINGS)
    assert not prepared.get_parameter("stem.0.layer.weight").requires_grad
    assert not prepared.get_parameter("stem.0.layer.bias").requires_grad


def test_layers_kept_in_float_have_no_quantizer(build, images):
    settings = QuantizerSettings(keep_float=["stem.0"])
    prepared = prepare(build("residual"), images, settings)
    assert isinstance(prepared.get_submodule("stem.0"), nn.Conv2d)
    assert "images" not in names(build("residual"), images, settings)
    assert "stem_2" in names(build("residual"), images, settings)  # the next layer reads it


def test_an_unknown_layer_to_keep_in_float(build, images):
    with pytest.raises(ModelError, match=r"no layer `stem\.1`; did you mean `stem\.0`\?; it has stem\.0, stages"):
        prepare(build("residual"), images, QuantizerSettings(keep_float=["stem.1"]))


class Shared(nn.Module):
    """One convolution called twice, one sum with a constant, one with a parameter; a convolution that reflects."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 1, 3, padding=1), nn.BatchNorm2d(1)
        self.mirror = nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect")
        self.shift = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.mirror(self.conv(self.norm(self.conv(x))) + 1 + self.shift)


def test_what_cannot_be_folded_or_quantized_stays(images):
    """Folding the normalization of a layer that is called twice would change its other call."""
    network = Shared().eval()
    with torch.no_grad():
        network.norm.running_var.fill_(4.0)
    prepared = prepare(network, images, SETTINGS)
    assert isinstance(prepared.get_submodule("norm"), nn.BatchNorm2d)
    assert isinstance(prepared.get_submodule("mirror"), nn.Conv2d)
    assert names(network, images) == ["x", "conv", "norm", "conv_1"]


class InPlace(nn.Module):
    """A block as torchvision writes it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.conv2, self.norm2 = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm1(self.conv1(x)))
        out = self.norm2(self.conv2(input=x))
        out += x
        return self.relu(out)


@pytest.mark.parametrize("learn_scales", [False, True])
def test_in_place_operators_can_be_trained_through(learn_scales, images):
    settings = QuantizerSettings(learn_scales=learn_scales)
    assert names(InPlace(), images, settings) == ["x", "relu", "conv2"]  # the last sum answers, in float
    prepared = prepare(InPlace(), images, settings)
    calibrate(prepared, [images])
    prepared.train()(images).square().sum().backward()
    assert all(parameter.grad is not None for parameter in prepared.parameters())


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class Elementwise(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x)


def test_a_network_that_cannot_be_traced(images):
    with pytest.raises(ModelError, match=r"Branching cannot be traced.*let `forward` take the same path"):
        prepare(Branching(), images, SETTINGS)


def test_a_network_without_layers(images):
    with pytest.raises(ModelError, match="nothing to quantize"):
        prepare(Elementwise(), images, SETTINGS)


def test_an_example_that_does_not_fit(build):
    with pytest.raises(ModelError, match=r"ResidualNet does not accept an input of shape \(2, 5, 8, 8\)"):
        prepare(build("residual"), torch.zeros(2, 5, 8, 8), SETTINGS)


class QuantizedByTorch(nn.Module):
    """Made as torch's own quantization leaves its layers; the real ones warn that they are going away."""

    __module__ = "torch.ao.nn.quantized.modules.linear"


def test_a_network_that_is_quantized_already(build, images):
    prepared = prepare(build("vgg"), images, SETTINGS)
    calibrate(prepared, [images])
    for network in (prepared, convert(prepared), QuantizedByTorch()):
        with pytest.raises(ModelError, match="quantized already"):
            prepare(network, images, SETTINGS)
