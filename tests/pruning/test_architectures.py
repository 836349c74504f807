"""What is found in networks of every kind, and that cutting it takes exactly what goes together."""

from importlib.util import find_spec

import pytest
import torch
from torch import nn

from compresslab.pruning.counting import count, sizes
from compresslab.pruning.cutting import cut
from compresslab.pruning.finding import find_groups
from tests.pruning.networks import CASES, build


@pytest.fixture(scope="module", params=CASES)
def found(request):
    case = CASES[request.param]
    if case.needs is not None and find_spec(case.needs) is None:
        pytest.skip(f"{case.needs} is not installed")
    module, example = build(request.param), case.example()
    return case, module, example, find_groups(module, example)


def half(group, seed=0):
    """An irregular half, so that wrong indices cannot pass by symmetry."""
    order = torch.randperm(group.units, generator=torch.Generator().manual_seed(seed))
    return sorted(order[: max(1, group.units // 2)].tolist())


def test_groups_are_found_and_outputs_are_kept_with_the_reason(found):
    case, _, _, groups = found
    units = {group.name: group.units for group in groups}
    for name, count_of in case.found.items():
        assert units.get(name) == count_of, (name, units, groups.kept)
    for layer, reason in case.kept.items():
        assert reason in groups.kept[layer]


def test_half_of_everything_runs_and_answers_in_the_same_shape(found):
    _, module, example, groups = found
    smaller = cut(module, groups, {group.name: half(group) for group in groups})
    with torch.no_grad():
        before, after = module(example), smaller(example)
    assert before.shape == after.shape
    assert after.isfinite().all()
    assert after.std() > 0
    assert sum(value.numel() for value in smaller.parameters()) < 0.75 * sum(p.numel() for p in module.parameters())


def test_units_that_nothing_reads_can_be_cut_without_a_trace(found):
    """Each group: the readers' weights of half the units are zero. Wrong indices on any side would show."""
    _, module, example, groups = found
    keep = {group.name: half(group) for group in groups}
    whole = cut(module, groups, {})
    for layer in whole.modules():
        if isinstance(layer, nn.LayerNorm | nn.GroupNorm):
            _without_statistics(layer)
    with torch.no_grad():
        for group in groups:
            gone = sorted(set(range(group.units)) - set(keep[group.name]))
            for member in group.members:
                if member.side == "in":
                    _silence(whole.get_submodule(member.layer), member.index[gone].flatten())
        expected = whole(example)
        assert expected.std() > 1e-3, "a network that says nothing proves nothing"
        torch.testing.assert_close(cut(whole, groups, keep)(example), expected, rtol=1e-4, atol=1e-5)


def test_what_will_be_counted_is_known_before(found):
    _, module, example, groups = found
    predicted = sizes(module, groups, example)
    assert predicted.whole == count(module, example) == predicted.at({})
    for seed, share in ((1, 0.5), (2, 0.2)):
        drawn = torch.rand(len(groups.groups), generator=torch.Generator().manual_seed(seed)) < 0.7
        kept = {
            group.name: max(1, int(share * group.units)) if chosen else group.units
            for group, chosen in zip(groups, drawn, strict=True)
        }
        smaller = cut(module, groups, {name: range(units) for name, units in kept.items()}, share=True)
        assert predicted.at(kept) == count(smaller, example)


def _silence(layer, channels):
    """Sets the weights that read these channels to zero."""
    weight = layer.weight
    if isinstance(layer, nn.ConvTranspose2d):
        weight[channels] = 0
    elif isinstance(layer, nn.Conv2d) and layer.groups > 1:
        for channel in channels.tolist():
            group, inner = divmod(channel, layer.in_channels // layer.groups)
            rows = layer.out_channels // layer.groups
            weight[group * rows : (group + 1) * rows, inner] = 0
    else:
        weight[:, channels] = 0


def _without_statistics(layer):
    """Statistics over channels change with what is cut; the scales and shifts are what has to be cut right."""
    layer.__class__ = AffineGroups if isinstance(layer, nn.GroupNorm) else Affine


class Affine(nn.LayerNorm):
    def forward(self, x):
        return x * self.weight + self.bias


class AffineGroups(nn.GroupNorm):
    def forward(self, x):
        return x * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)
