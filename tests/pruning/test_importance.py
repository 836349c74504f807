import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import torch_pruning as tp
from scipy.stats import spearmanr
from torch import nn

from compresslab.errors import BadInput, ModelError
from compresslab.models import Residual
from compresslab.pruning.cutting import cut
from compresslab.pruning.evidence import READINGS, Evidence, gather
from compresslab.pruning.finding import find_groups
from compresslab.pruning.importance import CRITERIA, judge, own
from tests.pruning.networks import CASES, build

OWN = Path(__file__).with_name("own_importance.py")


def pair(first, second, scale=None):
    """Linear, BatchNorm, ReLU, Linear with these weights and scales; the only group is `0`."""
    first, second = torch.tensor(first), torch.tensor(second)
    net = nn.Sequential(nn.Linear(first.shape[1], len(first)), nn.BatchNorm1d(len(first)), nn.ReLU(),
                        nn.Linear(second.shape[1], len(second))).eval()  # fmt: skip
    with torch.no_grad():
        net[0].weight.copy_(first)
        net[3].weight.copy_(second)
        net[1].weight.copy_(torch.tensor(scale or [1.0] * len(first)))
    return net, find_groups(net, torch.randn(2, first.shape[1]))["0"]


NET, GROUP = pair([[3.0, -4.0], [1.0, 0.0], [0.0, 2.0]], [[1.0, -2.0, 5.0]], [0.5, -1.0, 2.0])


def scores(name, net=NET, group=GROUP, **evidence):
    return CRITERIA[name].function(Evidence(net, **evidence), group)


def test_magnitudes_are_means_over_both_sides_and_the_normalization():
    assert torch.allclose(scores("magnitude_l1"), torch.tensor([7 + 1 + 0.5, 1 + 2 + 1, 2 + 5 + 2]) / 3)
    assert torch.allclose(scores("magnitude"), torch.tensor([25 + 1 + 0.25, 1 + 4 + 1, 4 + 25 + 4]) / 3)


def test_lamp_is_the_share_among_those_that_are_no_smaller():
    """33 is the largest, then 26.25, then 6."""
    assert torch.allclose(scores("lamp"), torch.tensor([26.25 / (26.25 + 33), 6 / (6 + 26.25 + 33), 1]))


def test_fpgm_is_the_distance_to_the_others():
    first = torch.tensor([20**0.5 + 45**0.5, 20**0.5 + 5**0.5, 45**0.5 + 5**0.5])
    second = torch.tensor([3.0 + 4, 3 + 7, 4 + 7])
    assert torch.allclose(scores("fpgm"), (first + second) / 2)


def test_bn_scale_is_absolute():
    assert scores("bn_scale").tolist() == [0.5, 1.0, 2.0]


def test_bn_scale_refuses_a_network_that_is_not_trained():
    """In torch-pruning a silent no-op: all channels tie."""
    net, group = pair([[3.0, -4.0], [1.0, 0.0]], [[1.0, -2.0]])
    with pytest.raises(ModelError, match=r"`bn_scale` cannot judge `0`: the scales of `1` are all alike.*`taylor`"):
        scores("bn_scale", net, group)


def test_bn_scale_refuses_a_group_without_a_normalization():
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    (group,) = find_groups(net, torch.randn(2, 2))
    with pytest.raises(
        ModelError, match=r"`bn_scale` cannot judge `0`: no normalization .* use `taylor` or `magnitude`"
    ):
        scores("bn_scale", net, group)


def test_random_depends_on_seed_and_group_alone():
    assert torch.equal(scores("random", seed=1), scores("random", seed=1))
    assert not torch.equal(scores("random", seed=1), scores("random", seed=2))


def linear():
    """y = v . (W x): what a unit does to a loss that is y itself can be said by hand."""
    net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        net[1].weight.copy_(torch.tensor([[2.0, 3.0]]))
    inputs = torch.tensor([[1.0, 1.0], [-1.0, 3.0]])
    (group,) = find_groups(net, inputs)
    return net, group, gather(net, [group], [(inputs, inputs)], lambda out, _: out.mean(), READINGS)


def test_taylor_by_hand():
    """Of each sample |2 x0| and |3 x1|: their mean. The mean gradient would say that the first unit does nothing."""
    _, group, evidence = linear()
    assert CRITERIA["taylor"].function(evidence, group).tolist() == [2.0, 6.0]
    assert evidence.gradients["1.weight"].tolist() == [[0.0, 2.0]]


def test_hessian_by_hand():
    """Half of w^2 g^2, on both sides: first [w=1, g=2x] and second [w=v, g=x]."""
    _, group, evidence = linear()
    first = torch.tensor([1 * (4 * 1 + 4 * 1) / 2, 1 * (9 * 1 + 9 * 9) / 2])
    second = torch.tensor([4 * (1 + 1) / 2, 9 * (1 + 9) / 2])
    assert torch.allclose(CRITERIA["hessian"].function(evidence, group), (first + second) / 2)


def test_activation_by_hand():
    _, group, evidence = linear()
    assert CRITERIA["activation"].function(evidence, group).tolist() == [1.0, 2.0]


def test_gathering_leaves_the_network_as_it_is_and_reads_only_what_is_asked():
    net, group, _ = linear()
    net.train()
    net[0].weight.requires_grad_(False)
    before = copy.deepcopy(net.state_dict())
    batches = [(torch.randn(5, 2), torch.zeros(5))] * 2
    evidence = gather(net, [group], batches, lambda out, _: out.mean(), {"gradients"})
    assert evidence.gradients["0.weight"].abs().sum() > 0, "a frozen layer matters as well"
    assert not evidence.squared_gradients
    assert not evidence.contributions
    assert not evidence.activations
    assert net.training
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert not any(layer._forward_pre_hooks for layer in net.modules())


def test_batches_do_not_matter():
    net, group, _ = linear()
    inputs = torch.randn(12, 2, generator=torch.Generator().manual_seed(0))

    def evidence(sizes):
        return gather(
            net, [group], [(one, one) for one in inputs.split(sizes)], lambda out, _: out.square().mean(), READINGS
        )

    one, several = evidence([12]), evidence([5, 7])
    for reading in READINGS:
        for name, value in getattr(one, reading).items():
            torch.testing.assert_close(value, getattr(several, reading)[name])


def test_no_samples_and_no_loss_are_refused():
    net, group, _ = linear()
    with pytest.raises(ModelError, match="there are none; give the calibration split some"):
        gather(net, [group], [], lambda out, _: out.mean(), {"gradients"})
    for reading in ("gradients", "squared_gradients", "contributions"):
        with pytest.raises(ModelError, match="the loss on calibration samples is nan"):
            gather(net, [group], [(torch.ones(1, 2), torch.ones(1))], lambda out, _: out.mean() * torch.nan, {reading})


def test_samples_that_cannot_be_told_apart_are_refused():
    """A layer that is given the samples' mean has one row for all of them."""

    class Mean(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(2, 4), nn.Linear(4, 1)

        def forward(self, x):
            return self.b(self.a(x).mean(0, keepdim=True))

    net = Mean()
    groups = find_groups(net, torch.randn(3, 2))
    with pytest.raises(ModelError, match=r"`b` is given 1 rows for 3 samples.*use `hessian` instead"):
        gather(net, groups, [(torch.randn(3, 2), torch.zeros(3))], lambda out, _: out.mean(), {"contributions"})


@pytest.mark.parametrize("case", ["mobile", "resnext", "squeeze-excite", "vgg", "dense", "norms"])
def test_every_way_judges_every_kind_of_network(case):
    net, example = build(case), CASES[case].example()
    groups = find_groups(net, example)
    evidence = gather(net, groups, [(example, example)], lambda out, _: out.square().mean(), READINGS, samples=4)
    for name in set(CRITERIA) - {"bn_scale"}:
        found = judge(CRITERIA[name], evidence, groups)
        assert set(found) == {group.name for group in groups}
        assert all(len(one.unique()) > 1 for one in found.values()), f"{name} says the same of all units"


def test_heads_are_judged_as_wholes():
    """The fused layer of timm has three parts of each head."""
    net = nn.Module()
    net.attn = nn.Module()
    net.attn.num_heads, net.attn.qkv, net.attn.proj = 2, nn.Linear(4, 12, bias=False), nn.Linear(4, 4, bias=False)
    from compresslab.pruning.attention import find_attention
    from compresslab.pruning.finding import _heads

    (attention,) = find_attention(net)
    group = _heads(attention)
    qkv, proj = net.attn.qkv.weight.detach(), net.attn.proj.weight.detach()
    expected = [
        (qkv[[*rows, *(r + 4 for r in rows), *(r + 8 for r in rows)]].square().sum() + proj[:, rows].square().sum()) / 2
        for rows in ([0, 1], [2, 3])
    ]
    assert torch.allclose(scores("magnitude", net, group), torch.stack(expected))


@pytest.fixture(scope="module")
def trained():
    """A residual network that knows scikit-learn's digits, and samples that it did not see."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    inputs = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 8 - 1
    targets = torch.tensor(digits.target)
    torch.manual_seed(0)
    net = Residual(widths=(8, 16)).build(10, 1)
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=6 * 19)
    for _ in range(6):
        for rows in torch.randperm(1200).split(64):
            optimizer.zero_grad()
            F.cross_entropy(net(inputs[rows]), targets[rows]).backward()
            optimizer.step()
            schedule.step()
    net.eval()
    batches = [(inputs[1200:1500], targets[1200:1500])]
    groups = find_groups(net, inputs[:2])
    return net, groups, batches, gather(net, groups, batches, F.cross_entropy, READINGS, samples=64)


def test_taylor_and_hessian_foresee_what_the_loss_does(trained):
    """Rank correlation with the true change of the loss when one unit is cut, mean of all groups; 0 for random."""
    net, groups, [(inputs, targets)], evidence = trained

    @torch.no_grad()
    def loss(module):
        return F.cross_entropy(module(inputs), targets).item()

    whole = loss(net)
    correlation = {}
    true = {
        group.name: [
            loss(cut(net, [group], {group.name: set(range(group.units)) - {unit}}, share=True)) - whole
            for unit in range(group.units)
        ]
        for group in groups
    }
    for name in ("taylor", "hessian", "random"):
        found = judge(CRITERIA[name], evidence, groups)
        ranks = [spearmanr(found[group.name], true[group.name]).statistic for group in groups]
        correlation[name] = sum(ranks) / len(ranks)
    assert correlation["taylor"] > 0.6, correlation
    assert correlation["hessian"] > 0.45, correlation
    assert abs(correlation["random"]) < 0.35, correlation


def library_scores(net, example, name, importance):
    """What torch-pruning says of the group whose first layer this is."""
    graph = tp.DependencyGraph().build_dependency(net, example, verbose=False)
    layer = net.get_submodule(name)
    prune = graph.get_pruner_of_module(layer).prune_out_channels
    group = graph.get_pruning_group(
        layer, prune, list(range(graph.get_pruner_of_module(layer).get_out_channels(layer)))
    )
    return importance(group)


@pytest.mark.parametrize("case", ["residual", "vgg", "dense", "mlp", "squeeze-excite"])
def test_as_torch_pruning_where_the_definitions_agree(case):
    """Ours differ where a convolution has groups: theirs adds the readers of all groups together."""
    net, example = build(case), CASES[case].example()
    theirs = {
        "magnitude_l1": tp.importance.GroupMagnitudeImportance(p=1, group_reduction="mean", normalizer=None),
        "magnitude": tp.importance.GroupMagnitudeImportance(p=2, group_reduction="mean", normalizer=None),
        "lamp": tp.importance.LAMPImportance(p=2, group_reduction="mean"),
    }
    for group in find_groups(net, example):
        for name, importance in theirs.items():
            expected = library_scores(net, example, group.name, importance)
            torch.testing.assert_close(scores(name, net, group), expected, rtol=1e-4, atol=1e-6)


def test_fpgm_as_torch_pruning_of_positive_weights():
    """Theirs takes distances between |weights|^p, the paper and we between weights: the same for p=1 and no sign.

    Behind a flatten theirs measures each position apart, ours a channel as a whole.
    """
    net, example = build("squeeze-excite"), CASES["squeeze-excite"].example()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.abs_()
    theirs = tp.pruner.importance.FPGMImportance(p=1, group_reduction="mean", normalizer=None)
    for group in find_groups(net, example):
        expected = library_scores(net, example, group.name, theirs)
        torch.testing.assert_close(scores("fpgm", net, group), expected, rtol=1e-3, atol=1e-4)


def test_hessian_as_torch_pruning_of_one_sample():
    """Theirs keeps the last sample alone, whatever is accumulated; has no half and no biases, and is a mean."""
    net = nn.Sequential(nn.Linear(4, 6, bias=False), nn.ReLU(), nn.Linear(6, 3, bias=False))
    inputs, targets = torch.randn(1, 4), torch.tensor([1])
    (group,) = find_groups(net, inputs)
    evidence = gather(net, [group], [(inputs, targets)], F.cross_entropy, {"squared_gradients"})
    theirs = tp.importance.GroupHessianImportance(normalizer=None)
    F.cross_entropy(net(inputs), targets).backward()
    theirs.accumulate_grad(net)
    expected = library_scores(net, inputs, "0", theirs)
    torch.testing.assert_close(CRITERIA["hessian"].function(evidence, group), expected)  # mean of two, half of a sum


def test_the_users_own_sees_everything():
    _, group, evidence = linear()
    criterion = own(f"{OWN}:by_number")
    assert criterion.reads == set(READINGS)
    assert judge(criterion, evidence, [group])["0"].tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("a_list", r"a_list: gave list for `0`; a tensor \[2\] is needed"),
        ("of_channels", r"the importance of `0` must be \[2\], one score a unit, but is \[3\]"),
        ("of_numbers", "has no function `of_numbers`"),
    ],
)
def test_the_users_own_gone_wrong(function, message):
    _, group, evidence = linear()
    with pytest.raises(BadInput, match=message):
        judge(own(f"{OWN}:{function}"), evidence, [group])


def test_broken_weights_are_told():
    net, group = pair([[3.0, torch.nan], [1.0, 0.0]], [[1.0, -2.0]])
    with pytest.raises(ModelError, match="the importance of `0` is not finite"):
        judge(CRITERIA["magnitude"], Evidence(net), [group])
