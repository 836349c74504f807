import torch
from torch import nn

from compresslab.quantization import QuantizerSettings, calibrate, prepare
from compresslab.quantization.insertion import QuantizedLayer
from compresslab.quantization.smoothing import smooth

SETTINGS = QuantizerSettings(smoothing=0.0, correct_biases=False)


def test_one_normalization_by_hand():
    """Activations reach 16 and 1, weights 1 and 4: s = sqrt(16 / 1) = 4 and sqrt(1 / 4) = 0.5."""
    network = nn.Sequential(nn.LayerNorm(2), nn.Linear(2, 1))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([16.0, 1.0]))
        network[1].weight.copy_(torch.tensor([[1.0, -4.0]]))
    x = torch.tensor([[1000.0, -1000.0], [-1000.0, 1000.0]])  # normalized to plus and minus one
    prepared = prepare(network, x, SETTINGS)
    assert smooth(prepared, [x], 0.5) == 1
    torch.testing.assert_close(prepared.get_parameter("0.weight"), torch.tensor([4.0, 2.0]))
    torch.testing.assert_close(prepared.get_parameter("1.layer.weight"), torch.tensor([[4.0, -2.0]]))


def test_the_float_network_gives_what_it_gave(build, images):
    network = build("vit")
    prepared = prepare(network, images, SETTINGS)
    for part in prepared.modules():
        if isinstance(part, QuantizedLayer):
            part.weights = nn.Identity()
    assert smooth(prepared, images.split(16), 0.5) == 4, "the last one goes through a selection to the head"
    torch.testing.assert_close(prepared(images), network(images), rtol=1e-5, atol=1e-5)


def test_a_normalization_that_a_residual_reads_stays(build, ids):
    network = build("bert")
    prepared = prepare(network, ids, SETTINGS)
    assert smooth(prepared, [ids], 0.5) == 0


def test_it_rescues_outlier_channels(build, images):
    """As large language models have them: one scale for values a hundred times apart."""
    network = build("vit")
    with torch.no_grad():
        for block in network.blocks:
            for norm, layer in ((block.norm1, block.qkv), (block.norm2, block.fc1)):
                norm.weight[:2] *= 100.0
                layer.weight[:, :2] /= 100.0
    expected = network(images).detach()
    errors = {}
    for strength in (0.0, 0.5):
        settings = QuantizerSettings(observer="minmax", smoothing=strength, correct_biases=False)
        prepared = prepare(network, images, settings)
        calibrate(prepared, [images])
        errors[strength] = float((prepared(images).detach() - expected).square().mean() / expected.square().mean())
    assert errors[0.5] < 0.2 * errors[0.0]
