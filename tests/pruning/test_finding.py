import pytest
import torch
from torch import nn

from compresslab.errors import ModelError
from compresslab.pruning.finding import find_groups


class Twice(nn.Module):
    """A layer that is called twice: its channels would be cut for both calls."""

    def __init__(self):
        super().__init__()
        self.first, self.shared = nn.Linear(6, 8), nn.Linear(8, 8)
        self.between, self.last = nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x):
        x = self.shared(torch.relu(self.first(x)))
        return self.last(torch.relu(self.shared(torch.relu(self.between(x)))))


def test_a_shared_layer_is_kept_with_the_reason():
    groups = find_groups(Twice(), torch.randn(2, 6))
    assert "shared" not in {group.name for group in groups}
    assert groups.kept["shared"] == "`shared` is called 2 times in one forward"


class Detached(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 4)

    def forward(self, x):
        return self.fc(x).detach()


def test_a_network_without_a_graph_is_refused():
    with pytest.raises(
        ModelError, match="nothing can be cut from Detached: `fc`: no autograd graph of a forward has it"
    ):
        find_groups(Detached(), torch.randn(2, 6))


def test_a_network_that_wants_more_than_one_tensor_is_refused():
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(6, 4)

        def forward(self, x, y):
            return self.fc(x + y)

    with pytest.raises(ModelError, match=r"Pair cannot be pruned: it must make one tensor .* argument: 'y'"):
        find_groups(Pair(), torch.randn(2, 6))


def test_a_network_that_is_all_output_is_refused_with_the_reasons():
    with pytest.raises(ModelError, match="nothing can be cut from Sequential: `0`: its channels are the network's out"):
        find_groups(nn.Sequential(nn.Linear(6, 4)), torch.randn(2, 6))


def test_channels_that_are_joined_with_themselves_are_cut_in_both_places():
    class Joined(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(16, 3, 1)

        def forward(self, x):
            x = self.a(x)
            return self.b(torch.cat([x, torch.relu(x)], 1))

    (group,) = find_groups(Joined(), torch.randn(1, 3, 4, 4))
    assert {(member.layer, member.side, member.each) for member in group.members} == {("a", "out", 1), ("b", "in", 2)}
    assert group.members[1].index.sort(1).values.tolist() == [[i, i + 8] for i in range(8)]


def test_a_network_that_answers_with_two_tensors_is_refused():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(6, 4)

        def forward(self, x):
            return self.fc(x), x

    with pytest.raises(ModelError, match=r"one tensor \[2, 6\], but fails with AttributeError: 'tuple'"):
        find_groups(Two(), torch.randn(2, 6))
