import pytest
import torch
from torch import nn

from compresslab.errors import ModelError
from compresslab.pruning.counting import count, sizes
from compresslab.pruning.cutting import cut
from compresslab.pruning.evidence import Evidence
from compresslab.pruning.finding import find_groups
from compresslab.pruning.groups import Group, Member
from compresslab.pruning.importance import CRITERIA, judge
from compresslab.pruning.shares import allowed, best_units, channels, schedule, structure, widths
from tests.pruning.networks import CASES, build

EXAMPLE = torch.randn(2, 6, generator=torch.Generator().manual_seed(0))


def line(*sizes):
    """Linear layers of these widths, ReLU between them, from 6 to 3; groups are `0`, `2`, ..."""
    layers, before = [], 6
    for size in sizes:
        layers += [nn.Linear(before, size), nn.ReLU()]
        before = size
    return nn.Sequential(*layers, nn.Linear(before, 3))


def shares(net, scores, **arguments):
    groups = find_groups(net, EXAMPLE)
    return widths(net, groups, scores, sizes(net, groups, EXAMPLE), **{"target": "channels", **arguments})


def climbing(units, start=1.0):
    return torch.arange(units) + start


def test_local_keeps_the_same_share_of_each_group():
    net = line(16, 64)
    reached = shares(net, {"0": climbing(16), "2": climbing(64)}, share=0.5, scope="local")
    assert reached.widths == {"0": 8, "2": 32}
    assert reached.share == 0.5


def test_global_lets_units_compete():
    """On one scale: the 40 smallest are the 32 of `0` that are not its tenth, and others of `2`."""
    net = line(32, 32)
    scores = {"0": climbing(32), "2": climbing(32, 25.0)}
    reached = shares(net, scores, share=0.5, round_to=1, comparable=True)
    # In the order of scores: 1..24 of `0` alone, then one of each.
    assert reached.widths == {"0": 4, "2": 28}


def test_scores_that_are_on_no_one_scale_are_divided_by_their_means():
    net = line(32, 32)
    scores = {"0": climbing(32), "2": 1000 * climbing(32)}
    assert shares(net, scores, share=0.5, round_to=1).widths == {"0": 16, "2": 16}
    assert shares(net, scores, share=0.75, round_to=1, comparable=True).widths == {"0": 16, "2": 32}


def test_global_leaves_a_tenth_of_each_group():
    net = line(40, 40)
    reached = shares(net, {"0": climbing(40), "2": climbing(40, 100.0)}, share=0.5, round_to=1, comparable=True)
    assert reached.widths == {"0": 4, "2": 36}
    assert shares(net, {"0": climbing(40), "2": climbing(40)}, share=0.1, round_to=1).widths == {"0": 4, "2": 4}


def test_isomorphic_lets_those_of_one_structure_compete():
    """Two plain groups, and one with a normalization, whose scores are far lower; it loses its half all the same."""
    net = nn.Sequential(*line(32, 32)[:-1], nn.Linear(32, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 3)).eval()
    scores = {"0": climbing(32), "2": climbing(32, 17.0), "4": climbing(32) / 100}
    reached = shares(net, scores, share=0.5, scope="isomorphic", round_to=1, comparable=True)
    assert reached.widths == {"0": 8, "2": 24, "4": 16}
    groups = find_groups(net, EXAMPLE)
    assert structure(net, groups["0"]) == (("Linear", "out"), ("Linear", "in"))
    assert structure(net, groups["4"]) == (("Linear", "out"), ("BatchNorm1d", "out"), ("Linear", "in"))


def one_of(units, each, kind="channels"):
    index = torch.arange(units * each).reshape(units, each)
    return Group("a", kind, units, (Member("a", "out", index.repeat(1, 3)), Member("b", "in", index)))


def test_widths_are_multiples_in_channels_of_the_first_layer():
    group = Group("a", "channels", 32, (Member("a", "out", torch.arange(32)[:, None]),))
    assert allowed(group, 8) == (8, 16, 24, 32)
    assert allowed(group, 12) == (12, 24, 32), "the whole stays allowed"
    assert allowed(Group("a", "channels", 6, group.members), 8) == (6,), "too small for one: whole"
    pairs = Group("a", "channels", 16, (Member("a", "out", torch.arange(32).reshape(16, 2)),))
    assert allowed(pairs, 8) == (4, 8, 12, 16), "two channels a unit"
    assert allowed(pairs, 5) == (5, 10, 15, 16)


def test_heads_are_cut_by_ones_and_are_as_wide_as_they_write():
    """The fused layer has three times as many channels, of queries, keys and values."""
    assert allowed(one_of(4, 8, "heads"), 8) == (1, 2, 3, 4)
    assert channels(one_of(4, 8, "heads")) == 8


@pytest.mark.parametrize("target", ["parameters", "macs"])
@pytest.mark.parametrize("scope", ["local", "global", "isomorphic"])
@pytest.mark.parametrize("case", ["mobile", "dense"])
def test_the_share_told_is_that_of_the_network_once_cut(target, scope, case):
    net, example = build(case), CASES[case].example()
    groups = find_groups(net, example)
    scores = judge(CRITERIA["magnitude"], Evidence(net), groups)
    reached = widths(
        net, groups, scores, sizes(net, groups, example), target=target, share=0.5, scope=scope, round_to=2
    )
    smaller = cut(net, groups, best_units(groups, scores, reached.widths))
    found, whole = count(smaller, example), count(net, example)
    assert reached.share == getattr(found, target) / getattr(whole, target)
    assert abs(reached.share - 0.5) < 0.06


def test_the_nearest_is_taken_where_widths_are_coarse():
    net = line(16, 16)
    for share, reached in ((0.8, 0.75), (0.7, 0.75), (0.55, 0.5)):
        scores = {"0": climbing(16), "2": climbing(16, 100.0)}
        assert shares(net, scores, share=share, comparable=True).share == reached


def test_what_removes_nothing_is_told_with_the_nearest_that_does():
    net = line(16)
    with pytest.raises(ModelError, match=r"`channels: 0.9` removes nothing: widths are multiples of 8, .* is 0.5; ask"):
        shares(net, {"0": climbing(16)}, share=0.9, scope="local")


def test_what_cannot_be_reached_is_told_with_the_least():
    net = line(32)
    with pytest.raises(ModelError, match=r"`macs: 0.1` cannot be reached: 0.25 is the least .* lower `round_to` \(8\)"):
        shares(net, {"0": climbing(32)}, share=0.1, target="macs")


def test_a_network_of_narrow_layers_cannot_be_cut_and_says_so():
    with pytest.raises(ModelError, match=r"`channels: 0.5` cannot be reached: 1 is the least that can be left"):
        shares(line(6, 6), {"0": climbing(6), "2": climbing(6)}, share=0.5)


def test_the_best_units_stay_in_their_order():
    net = line(4)
    groups = find_groups(net, EXAMPLE)
    scores = {"0": torch.tensor([2.0, 1.0, 4.0, 3.0])}
    assert best_units(groups, scores, {"0": 2}) == {"0": (2, 3)}
    assert best_units(groups, scores, {}) == {"0": (0, 1, 2, 3)}


def test_steps_leave_the_same_share_each():
    first, second, third = schedule(0.125, 3)
    assert (first, second, third) == pytest.approx((0.5, 0.25, 0.125))
    assert schedule(0.3, 1) == (0.3,)
