import pytest
import torch
from pydantic import ValidationError

from compresslab.models import Residual


def parameters(net):
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize(
    ("widths", "blocks", "expected"),
    [((8, 16, 32), 1, 19_810), ((16, 32, 64), 1, 77_754), ((32, 64, 128), 2, 696_042), ((64, 128, 256), 2, 2_776_522)],
)
def test_parameter_counts(widths, blocks, expected):
    assert parameters(Residual(widths=widths, blocks=blocks).build(10, 1)) == expected


def test_shapes_strides_and_stem():
    settings = Residual(widths=(8, 16), blocks=[2, 1], strides=[2, 2], stem_width=4, stem_kernel=5, stem_stride=2)
    net = settings.build(7, 3).eval()
    images = torch.zeros(2, 3, 32, 32)
    assert net.stem(images).shape == (2, 4, 16, 16)
    assert net.stages(net.stem(images)).shape == (2, 16, 4, 4)
    assert net(images).shape == (2, 7)
    assert [len(stage) for stage in net.stages] == [2, 1]
    patches = Residual(widths=(8,), stem_kernel=4, stem_stride=4).build(7, 3)
    assert patches.stem(images).shape == (2, 8, 8, 8)


def test_without_additions_there_is_no_shortcut():
    plain = Residual(widths=(8, 16, 32), residual=False).build(10, 1)
    assert parameters(plain) == 19_810 - (8 * 16 + 2 * 16) - (16 * 32 + 2 * 32)
    assert not [name for name, _ in plain.named_modules() if "shortcut" in name]
    assert plain(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


def test_the_same_seed_gives_the_same_weights():
    nets = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        nets.append(Residual(widths=(8, 16)).build(10, 1).state_dict())
    assert all(torch.equal(nets[0][name], nets[1][name]) for name in nets[0])
    assert not torch.equal(nets[0]["head.weight"], nets[2]["head.weight"])


def test_he_initialisation():
    torch.manual_seed(0)
    conv = Residual(widths=(64, 128)).build(10, 1).stages[1][0].conv2
    assert conv.weight.std().item() == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.02)


@pytest.mark.parametrize("residual", [True, False])
def test_fx_traces_it(residual):
    net = Residual(widths=(8, 16), residual=residual).build(10, 1).eval()
    traced = torch.fx.symbolic_trace(net)
    images = torch.randn(3, 1, 28, 28)
    assert torch.equal(traced(images), net(images))


def test_the_exporter_takes_it_with_a_dynamic_batch():
    """torch.export is the first half of the ONNX exporter, and the one that fails on shapes."""
    net = Residual(widths=(8, 16)).build(10, 1).eval()
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(net, (torch.randn(2, 1, 28, 28),), dynamic_shapes=({0: batch},))
    images = torch.randn(5, 1, 28, 28)
    assert torch.allclose(program.module()(images), net(images), atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"widths": ()}, "at least 1 item"),
        ({"widths": (8, 0)}, "greater than or equal to 1"),
        (
            {"widths": (8, 16), "blocks": (1, 1, 1)},
            r"`blocks` must have one number for each of 2 `widths`, but got \[1, 1, 1\]",
        ),
        ({"widths": (8, 16), "blocks": 0}, "`1 <= blocks` must hold in every stage, but got 0"),
        ({"widths": (8, 16), "strides": (1, 0)}, "`1 <= strides` must hold in every stage"),
        ({"widths": (8, 16), "width": 3}, "Extra inputs are not permitted"),
        ({"widths": (8, 16.5)}, "valid integer"),
    ],
)
def test_other_settings_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        Residual(**settings)
