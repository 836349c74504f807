import pytest
import torch
from torch import nn

from compresslab.errors import ModelError
from compresslab.pruning.cutting import cut
from compresslab.pruning.finding import find_groups


def test_layer_norm_keeps_its_channels_in_order():
    """torch-pruning gives [600, 5]: silently wrong scales once most of a wide layer is cut."""
    net = nn.Sequential(nn.Linear(6, 1000), nn.LayerNorm(1000), nn.ReLU(), nn.Linear(1000, 4))
    nn.init.normal_(net[1].weight)
    nn.init.normal_(net[1].bias)
    smaller = cut(net, find_groups(net, torch.randn(2, 6)), {"0": [5, 600]})
    assert torch.equal(smaller[1].weight, net[1].weight[[5, 600]])
    assert torch.equal(smaller[1].bias, net[1].bias[[5, 600]])
    assert smaller[1].normalized_shape == (2,)


def test_a_group_cannot_be_emptied():
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))
    groups = find_groups(net, torch.randn(2, 6))
    with pytest.raises(ModelError, match="`0` has 8 units and cannot keep none of them; leave at least one"):
        cut(net, groups, {"0": []})
    with pytest.raises(ModelError, match=r"cannot keep units \[7, 8\]"):
        cut(net, groups, {"0": [7, 8]})
