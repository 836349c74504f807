from collections import OrderedDict

import pytest
import torch
from torch import nn

from compresslab.errors import ModelError
from compresslab.models.blocks import remove_blocks, without_blocks


class Net(nn.Module):
    """Two stages of blocks, each of which adds a number of its own, so that an output tells which ones ran."""

    def __init__(self, depths=(4, 3)):
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Sequential(*(Add(10.0**stage * 2**index) for index in range(depth)))
            for stage, depth in enumerate(depths)
        )
        self.named = nn.Sequential(OrderedDict(first=Add(0.25), second=Add(0.5)))
        self.head = nn.Linear(1, 1)

    def forward(self, x):
        for stage in self.stages:
            x = stage(x)
        return self.named(x)


class Add(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))

    def forward(self, x):
        return x + self.value


def ran(net):
    return net(torch.zeros(1)).item()


def test_blocks_are_gone_and_those_behind_move_up():
    net = Net()
    assert ran(net) == 1 + 2 + 4 + 8 + 10 + 20 + 40 + 0.75
    remove_blocks(net, ["stages.0.1", "stages.0.2", "stages.1.0", "named.first"])
    assert ran(net) == 1 + 8 + 20 + 40 + 0.5
    assert list(net.state_dict()) == [
        "stages.0.0.value", "stages.0.1.value", "stages.1.0.value", "stages.1.1.value", "named.second.value",
        "head.weight", "head.bias",
    ]  # fmt: skip


def test_a_network_that_is_cut_three_times_is_built_in_one_go():
    """Each cut names blocks as they are numbered by then; what is kept must be what the constructor calls them."""
    net, builder = Net((6, 5, 4)), {"kind": "x"}
    for names in (
        ["stages.0.1", "stages.1.4"],
        ["stages.1", "named.second"],
        ["stages.0.1", "stages.0.0", "stages.1.2"],
    ):
        remove_blocks(net, names)
        builder = without_blocks(builder, names)
    # stages.1 went whole, and with it what was gone of it; the last stages.1 is what began as stages.2.
    assert builder == {
        "kind": "x", "removed": ["named.second", "stages.0.0", "stages.0.1", "stages.0.2", "stages.1", "stages.2.2"],
    }  # fmt: skip
    again = Net((6, 5, 4))
    remove_blocks(again, builder["removed"])
    assert ran(again) == ran(net)
    assert list(again.state_dict()) == list(net.state_dict())


def test_a_builder_is_not_edited():
    builder = {"kind": "x", "removed": ["a.1"]}
    assert without_blocks(builder, ["a.1"]) == {"kind": "x", "removed": ["a.1", "a.2"]}
    assert builder == {"kind": "x", "removed": ["a.1"]}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["head"], r"`head` is no block that can be removed: ``, a Net, is no nn\.ModuleList"),
        (["stages.0.0.value"], r"`stages\.0\.0`, a Add, is no nn\.ModuleList or nn\.Sequential"),
        (["stage.0"], r"`stage`, which is not there, is no nn\.ModuleList"),
        (["stages.0.4"], r"`stages\.0` has no block `stages\.0\.4`; it has 4 blocks"),
        (["named.firsd"], "has no block `named.firsd`; did you mean `first`"),
        (["stages.0.1", "stages.0"], r"block `stages\.0\.1` lies inside `stages\.0`"),
        (["stages.1.0", "stages.1.1", "stages.1.2"], r"`stages\.1` would lose all its 3 blocks"),
    ],
)
def test_what_cannot_be_removed_is_told_before_anything_is(names, message):
    net = Net()
    with pytest.raises(ModelError, match=message):
        remove_blocks(net, ["stages.0.3", *names] if "stages.0" not in names else names)
    assert ran(net) == ran(Net())


def test_numbers_with_gaps_are_told():
    """Which number a block has afterwards could not be told from its name."""
    net = nn.Sequential(OrderedDict([("0", nn.Identity()), ("2", nn.Identity())]))
    with pytest.raises(ModelError, match=r"numbered with gaps \(0, 2\)"):
        remove_blocks(net, ["2"])
