import json

import pytest
import torch
from torch import nn

from compresslab.errors import ModelError
from compresslab.pruning.counting import sizes
from compresslab.pruning.finding import find_groups
from compresslab.pruning.sensitivity import (
    GroupSensitivity,
    Level,
    Sensitivity,
    ratios,
    sensitivity,
    widths_by_sensitivity,
)


def measured(name, *damage, units=16):
    levels = tuple(Level((i + 1) / 4, value) for i, value in enumerate(damage))
    return GroupSensitivity(name, units, units, levels)


FOUND = Sensitivity(1.0, (measured("a", 0.1, 0.2, 0.4), measured("b", 0.0, 0.0, 0.1), measured("c", 1.0, 0.0, 2.0)))


def sums(width):
    """Its output is the sum of its units, the first of which are the smallest."""
    net = nn.Sequential(nn.Linear(1, width, bias=False), nn.ReLU(), nn.Linear(width, 1, bias=False)).eval()
    with torch.no_grad():
        net[0].weight.copy_(torch.arange(width)[:, None])
        net[2].weight.fill_(1)
    return net


def test_damage_is_measured_with_the_least_important_units_cut_first():
    net = sums(8)
    groups = find_groups(net, torch.ones(2, 1))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    found = sensitivity(
        net, groups, {"0": torch.arange(8.0)}, lambda module: 28 - module(torch.ones(1, 1)).item(), (0.25, 0.26, 0.5, 1)
    )
    assert found == Sensitivity(
        0.0, (GroupSensitivity("0", 8, 8, (Level(0.25, 1.0), Level(0.5, 6.0), Level(0.875, 21.0))),)
    )
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_plain_data_is_json():
    plain = FOUND.to_plain()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["groups"][0]["levels"][1] == {"removed": 0.5, "damage": 0.2}


def test_ratios_are_the_largest_shares_within_the_damage():
    """`c` recovers behind a level that does too much, which is not looked at."""
    assert ratios(FOUND, 0.2) == pytest.approx({"a": 0.5, "b": 0.75, "c": 0.05})
    assert ratios(FOUND, 0.3) == pytest.approx({"a": 0.625, "b": 0.75, "c": 0.075})
    assert ratios(FOUND, 0.0) == pytest.approx({"a": 0.0, "b": 0.5, "c": 0.0})


def test_widths_from_sensitivity():
    net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3))
    example = torch.randn(2, 6)
    groups = find_groups(net, example)
    found = Sensitivity(0.0, (measured("0", 1.0, 2.0, 3.0), measured("2", 0.1, 0.2, 0.3)))
    price = sizes(net, groups, example)
    reached = widths_by_sensitivity(found, groups, price, target="channels", share=0.625, round_to=4)
    assert reached.widths == {"0": 16, "2": 4}
    assert reached.share == 0.625
    with pytest.raises(ModelError, match=r"`channels: 0.2` cannot be reached: 0.25 is the least"):
        widths_by_sensitivity(found, groups, price, target="channels", share=0.2, round_to=4)
