"""Refitting by least squares: numbers worked out by hand, optimality in every geometry, and networks of every kind."""

import copy
from importlib.util import find_spec

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from compresslab.pruning.cutting import cut
from compresslab.pruning.depth import without
from compresslab.pruning.finding import find_groups
from compresslab.pruning.reconstruct import reconstruct
from tests.pruning.networks import CASES, build


def two_units(bias):
    """Hidden units x0 and x1, of which the answer is 1 x0 + 3 x1."""
    net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Identity(), nn.Linear(2, 1, bias=bias)).eval()
    with torch.no_grad():
        net[0].weight.copy_(torch.eye(2))
        net[2].weight.copy_(torch.tensor([[1.0, 3.0]]))
        if bias:
            net[2].bias.fill_(2)
    return net


def refitted(net, keep, inputs, **settings):
    groups = find_groups(net, inputs[:2])
    smaller = cut(net, groups, keep)
    return smaller, reconstruct(smaller, net, groups, keep, inputs, **settings)


# x0 = 0, 1, 2, 1 has a mean of 1; x1 = 0, 1, 3, 0 has one of 1, a variance of 6/4, and a covariance with x0 of 3/4.
INPUTS = torch.tensor([[0.0, 0.0], [1.0, 1.0], [2.0, 3.0], [1.0, 0.0]])


@pytest.mark.parametrize(
    ("bias", "ridge", "weight", "constant"),
    [
        # Missing is x0 = 1/2 x1 + 1/2, as cov / var = 1/2.
        (True, 0.0, 3.5, 2.5),
        # A ridge of one variance halves the change: 1/4 x1 + 3/4.
        (True, 1.0, 3.25, 2.75),
        # No constant can be given: sum x0 x1 / sum x1^2 = 7/10.
        (False, 0.0, 3.7, None),
    ],
)
def test_a_reader_takes_over_what_the_unit_that_went_had_in_common_with_the_other(bias, ridge, weight, constant):
    smaller, layers = refitted(two_units(bias), {"0": [1]}, INPUTS, ridge=ridge)
    assert layers == ("2",)
    assert smaller[2].weight.item() == pytest.approx(weight)
    if constant is not None:
        assert smaller[2].bias.item() == pytest.approx(constant)


def test_a_batch_norm_gives_the_same_with_its_own_statistics_and_with_those_of_a_batch():
    """What least squares finds varies less than what it stands for; a BatchNorm in training would blow it up again."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 6, 3, bias=False), nn.ReLU(), nn.Conv2d(6, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(),
        nn.Flatten(), nn.Linear(4 * 16, 3),
    ).eval()  # fmt: skip
    with torch.no_grad():
        net[3].weight.copy_(torch.tensor([0.5, 1.0, 2.0, -1.0]))
        net[3].bias.copy_(torch.tensor([0.0, 1.0, -1.0, 0.5]))
        net[3].running_mean.copy_(torch.tensor([0.1, 0.0, -0.2, 0.3]))
    inputs = torch.randn(100, 1, 8, 8)
    smaller, _ = refitted(net, {"0": [0, 1, 4]}, inputs, ridge=1e-9)
    with torch.no_grad():
        wanted = net[:4](inputs)
        found = smaller[:4](inputs)
        torch.testing.assert_close(smaller[:4].train()(inputs), found, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(found.mean((0, 2, 3)), wanted.mean((0, 2, 3)), rtol=1e-4, atol=1e-4)
        # Least squares: what is missing has nothing in common with what is there.
        missing = wanted - found
        assert (missing * (found - found.mean((0, 2, 3), keepdim=True))).mean().abs() < 1e-4
        assert (missing.var((0, 2, 3)) < wanted.var((0, 2, 3))).all()


@pytest.mark.parametrize(
    "geometry",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": (3, 2), "stride": (2, 1), "padding": (0, 1)},
        {"kernel_size": 2, "dilation": (1, 2), "stride": 2},
        {"kernel_size": 1},
    ],
)
def test_no_other_weights_of_a_convolution_are_nearer(geometry):
    """The gradient of the squared error vanishes: wrong windows or positions would be optimal for something else."""
    torch.manual_seed(1)
    net = nn.Sequential(nn.Conv2d(2, 8, 1), nn.Tanh(), nn.Conv2d(8, 5, **geometry), nn.AdaptiveAvgPool2d(1)).eval()
    inputs = torch.randn(150, 2, 7, 7)
    smaller, _ = refitted(net, {"0": [1, 2, 5, 7]}, inputs, ridge=0.0)
    now, wanted = smaller[:3](inputs), net[:3](inputs).detach()
    F.mse_loss(now, wanted).backward()
    as_cut = cut(net, find_groups(net, inputs[:2]), {"0": [1, 2, 5, 7]})
    assert F.mse_loss(now, wanted) < F.mse_loss(as_cut[:3](inputs), wanted)
    assert smaller[2].weight.grad.abs().max() < 1e-6
    assert smaller[2].bias.grad.abs().max() < 1e-6


def test_what_stands_before_the_cut_and_what_is_grouped_stays_as_it_was():
    torch.manual_seed(2)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.ReLU(),
        nn.Flatten(), nn.Linear(8 * 4, 2),
    ).eval()  # fmt: skip
    inputs = torch.randn(60, 1, 8, 8)
    keep = {"2": [0, 2, 3, 5]}
    smaller, layers = refitted(net, keep, inputs)
    as_cut = cut(net, find_groups(net, inputs[:2]), keep)
    assert layers == ("7",)
    for index in (0, 2, 4):
        assert torch.equal(smaller[index].weight, as_cut[index].weight)


def test_blocks_behind_one_that_is_gone_are_held_against_what_they_were():
    """They move up and change their names; held against another block's they would learn nonsense."""
    module, inputs = build("residual"), torch.randn(200, *CASES["residual"].example().shape[1:])
    names = [name for name in ("stages.0.0", "stages.0.1") if name in dict(module.named_modules())]
    gone = [names[-1]]
    smaller = without(module, gone)
    before = copy.deepcopy(smaller)
    reconstruct(smaller, module, (), {}, inputs, removed=gone)
    with torch.no_grad():
        wanted = module(inputs)
        assert F.mse_loss(smaller(inputs), wanted) < 0.5 * F.mse_loss(before(inputs), wanted)


@pytest.mark.parametrize("name", ["residual", "mobile", "dense", "squeeze-excite", "hf vit", "bert"])
def test_networks_of_every_kind_come_nearer_to_what_they_were(name):
    case = CASES[name]
    if case.needs is not None and find_spec(case.needs) is None:
        pytest.skip(f"{case.needs} is not installed")
    module, example = build(name), case.example()
    groups = find_groups(module, example)
    if example.is_floating_point():
        inputs = torch.randn(128, *example.shape[1:], generator=torch.Generator().manual_seed(3))
    else:
        inputs = torch.randint(1, 50, (128, *example.shape[1:]), generator=torch.Generator().manual_seed(3))
    keep = {
        group.name: sorted(
            torch.randperm(group.units, generator=torch.Generator().manual_seed(4))[: -(-group.units * 3 // 4)].tolist()
        )
        for group in groups
    }
    before = {key: value.clone() for key, value in module.state_dict().items()}
    smaller = cut(module, groups, keep)
    as_cut = copy.deepcopy(smaller)
    layers = reconstruct(smaller, module, groups, keep, inputs)
    with torch.no_grad():
        wanted = module(inputs)
        assert F.mse_loss(smaller(inputs), wanted) < 0.7 * F.mse_loss(as_cut(inputs), wanted)
    assert layers
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())
