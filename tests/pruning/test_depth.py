from importlib.util import find_spec

import pytest
import torch
from torch import nn

from compresslab.errors import ModelError
from compresslab.pruning.depth import block_damage, find_blocks, without
from tests.pruning.networks import CASES, build

FOUND = {
    "residual": {"stages.0.0", "stages.0.1"},
    "mobile": {"blocks.0", "blocks.2"},
    "resnext": {"blocks.0", "blocks.1"},
    "dense": set(),
    "vgg": set(),
    "timm vit": {"blocks.0", "blocks.1"},
    "timm resnet18": {f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in ((0, 1) if stage == 1 else (1,))},
    "hf vit": {"net.vit.encoder.layer.0", "net.vit.encoder.layer.1"},
    "bert": {"net.bert.encoder.layer.0", "net.bert.encoder.layer.1"},
}


@pytest.mark.parametrize("name", FOUND)
def test_blocks_that_can_be_removed_are_found_and_the_rest_runs(name):
    case = CASES[name]
    if case.needs is not None and find_spec(case.needs) is None:
        pytest.skip(f"{case.needs} is not installed")
    net, example = build(name), case.example()
    weights = {key: value.clone() for key, value in net.state_dict().items()}
    blocks = find_blocks(net, example)
    assert set(blocks.names) == FOUND[name]
    with torch.no_grad():
        whole = net(example)
        for block in blocks.names:
            shorter = without(net, [block])
            outputs = shorter(example)
            assert outputs.shape == whole.shape
            assert not torch.allclose(outputs, whole), "a block that does nothing was not removed"
            assert not {id(value) for value in shorter.parameters()} & {id(value) for value in net.parameters()}
        assert torch.equal(net(example), whole)
    assert all(torch.equal(weights[key], value) for key, value in net.state_dict().items())


def test_blocks_that_change_the_shape_are_kept_with_the_reason():
    blocks = find_blocks(build("residual"), CASES["residual"].example())
    assert blocks.kept["stages.1.0"] == "it makes [4, 32, 8, 8] of [4, 16, 16, 16]"


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(6, 8), nn.Linear(8, 6)

    def forward(self, x):
        return x + self.two(torch.relu(self.one(x)))


class Counted(nn.Module):
    """A network that asks for its blocks by number, one that is called twice, and an only one."""

    def __init__(self):
        super().__init__()
        self.numbered = nn.ModuleList([Block(), Block()])
        self.twice = nn.ModuleList([Block(), Block()])
        self.only = nn.Sequential(Block())

    def forward(self, x):
        x = self.numbered[1](self.numbered[0](x))
        for block in self.twice:
            x = block(x)
        return self.only(self.twice[-1](x))


def test_blocks_that_the_network_asks_for_are_kept_with_the_reason():
    blocks = find_blocks(Counted(), torch.randn(2, 6))
    assert blocks.names == ("twice.0",)
    assert blocks.kept["numbered.1"].startswith("the network fails without it: index 1 is out of range")
    assert blocks.kept["twice.1"] == "it is called 2 times in one forward"
    assert blocks.kept["only.0"] == "it is the only one of its container"


def test_damage_is_what_the_judge_says_more():
    """The second of two blocks does nothing, the first adds 1."""
    net = nn.Sequential(Block(), Block()).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        net[0].two.bias.fill_(1)
    zeros = torch.zeros(1, 6)
    assert block_damage(net, ["0", "1"], lambda module: -module(zeros).mean().item()) == {"0": 1.0, "1": 0.0}


def test_what_is_no_block_cannot_be_removed():
    with pytest.raises(ModelError, match=r"`numbered.0.one` is no block that can be removed"):
        without(Counted(), ["numbered.0.one"])
