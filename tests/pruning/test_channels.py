import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from compresslab.errors import ModelError
from compresslab.models import Residual
from compresslab.pruning import output_layers, prune_channels

EXAMPLE = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))


def network(widths=(16, 32)):
    torch.manual_seed(0)
    return Residual(widths=widths).build(10, 1).eval()


def gradients(module):
    targets = torch.tensor([1, 7])
    module.zero_grad(set_to_none=True)
    F.cross_entropy(module(EXAMPLE), targets).backward()


@pytest.mark.parametrize("importance", ["magnitude", "taylor"])
@pytest.mark.parametrize("scope", ["local", "global"])
def test_prunes_runs_and_leaves_its_argument(importance, scope):
    net = network()
    before = copy.deepcopy(net.state_dict())
    pruned, decisions = prune_channels(
        net, EXAMPLE, ratio=0.5, importance=importance, scope=scope, round_to=8, accumulate=gradients
    )
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert pruned(EXAMPLE).shape == (2, 10)
    assert sum(p.numel() for p in pruned.parameters()) < 0.6 * sum(p.numel() for p in net.parameters())
    assert decisions["widths"]
    for was, now in decisions["widths"].values():
        assert now < was
        assert now % 8 == 0, "an unrounded width makes the model slower"


def test_head_is_found_and_kept():
    """torch-pruning cuts an unprotected head of 10 classes to 5 without a word."""
    net = network()
    assert output_layers(net, EXAMPLE) == (net.head,)
    pruned, decisions = prune_channels(net, EXAMPLE, ratio=0.5, importance="magnitude")
    assert pruned.head.out_features == 10
    assert "head" in decisions["kept_whole"]


def test_two_heads_are_both_found():
    class TwoHeads(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Linear(6, 8)
            self.left, self.right = nn.Linear(8, 3), nn.Linear(8, 3)

        def forward(self, x):
            x = F.relu(self.body(x))
            return self.left(x) + self.right(x)

    net = TwoHeads()
    assert set(output_layers(net, torch.randn(2, 6))) == {net.left, net.right}


def test_magnitude_removes_the_smallest_channels():
    """Half the filters of a block are made tiny: exactly those must go."""
    net = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 8, 3, padding=1), nn.Flatten(),
                        nn.Linear(8 * 256, 10))  # fmt: skip
    torch.manual_seed(0)
    with torch.no_grad():
        for layer in (net[0], net[2]):
            nn.init.normal_(layer.weight, std=0.1)
        net[0].weight[::2] *= 0.001
        net[2].weight[:, ::2] *= 0.001
    kept = net[0].weight[1::2].clone()
    pruned, _ = prune_channels(net, EXAMPLE, ratio=0.5, importance="magnitude", scope="local", round_to=8)
    assert torch.equal(pruned[0].weight, kept)


def test_taylor_keeps_what_the_loss_needs_though_its_weights_are_small():
    """Magnitude would keep the large filters; their outputs are multiplied by zero, so the loss does not need them."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 1), nn.Flatten(),
                        nn.Linear(16 * 256, 10))  # fmt: skip
    with torch.no_grad():
        net[0].weight[::2] *= 10
        net[2].weight[:, ::2] = 0
        net[2].weight[:, 1::2] *= 3
    kept = net[0].weight[1::2].clone()
    pruned, _ = prune_channels(
        net, EXAMPLE, ratio=0.5, importance="taylor", scope="local", round_to=8, accumulate=gradients
    )
    assert torch.equal(pruned[0].weight, kept)


def test_nothing_removed_is_an_error():
    with pytest.raises(ModelError, match=r"removes nothing from ResidualNet; raise `ratio` or lower `round_to`"):
        prune_channels(network((8, 8)), EXAMPLE, ratio=0.1, importance="magnitude", round_to=8)


def test_taylor_without_gradients_is_an_error():
    with pytest.raises(ModelError, match="Taylor importance needs gradients"):
        prune_channels(network(), EXAMPLE, ratio=0.5, importance="taylor")


def test_network_without_a_graph_is_an_error():
    class Detached(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(6, 4)

        def forward(self, x):
            return self.fc(x).detach()

    with pytest.raises(ModelError, match="Detached"):
        prune_channels(Detached(), torch.randn(2, 6), ratio=0.5, importance="magnitude")
