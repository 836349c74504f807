import pytest
import torch
from torch import nn

from compresslab.models import Residual
from compresslab.pruning.costs import Beside, Costs
from compresslab.pruning.cutting import cut
from compresslab.pruning.finding import find_groups
from compresslab.pruning.geometry import DEPTHWISE, Geometry, Sized, levels, step_for
from compresslab.pruning.layer_trace import layers_of

EXAMPLE = torch.zeros(2, 1, 16, 16)


class Multiplications:
    """A table in which a multiplication takes a nanosecond; notes what it was asked for."""

    def __init__(self):
        self.asked = []

    def ms(self, layers):
        asked = list(layers)
        self.asked.append(asked)
        return {sized: 1e-6 * self.work(sized) for sized in asked}

    def work(self, sized):
        return (1 if sized.geometry.groups == DEPTHWISE else sized.inputs) * sized.outputs


def network(widths=(16, 32)):
    torch.manual_seed(0)
    return Residual(widths=widths).build(10, 1).eval()


def costs_of(module, example, table=None, **options):
    return Costs(layers_of(module, example), find_groups(module, example), table or Multiplications(), **options)


def halves(groups, costs):
    return {group.name: costs.levels[group.name][(len(costs.levels[group.name]) - 1) // 2] for group in groups}


def test_layers_are_traced_with_what_decides_their_time():
    layers = {layer.name: layer for layer in layers_of(network(), EXAMPLE)}
    assert layers["stages.1.0.conv1"].sized == Sized(Geometry("conv", (16, 16), (3, 3), (2, 2), (1, 1), (1, 1)), 16, 32)
    assert layers["stages.1.0.conv1"].positions == 64
    assert layers["head"].sized == Sized(Geometry("linear"), 32, 10)


def test_tokens_padding_and_channels_of_their_own():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.own = nn.Conv2d(4, 4, 3, padding="same", groups=4)
            self.project = nn.Linear(4, 6)

        def forward(self, x):
            return self.project(self.own(x).flatten(2).transpose(1, 2))

    own, project = layers_of(Mixed(), torch.zeros(2, 4, 5, 5))
    assert own.sized.geometry == Geometry("conv", (5, 5), (3, 3), (1, 1), (1, 1), (1, 1), DEPTHWISE)
    assert project.sized.geometry == Geometry("linear", (25,))
    assert project.positions == 25


def test_widths_are_those_of_the_network_after_the_cut():
    """The prediction must be for the network that is really made; so the two ways to its widths must agree."""
    module = network()
    groups = find_groups(module, EXAMPLE)
    costs = costs_of(module, EXAMPLE)
    keep = halves(groups, costs)
    smaller = cut(module, groups, {name: range(count) for name, count in keep.items()})
    real = {layer.name: layer.sized for layer in layers_of(smaller, EXAMPLE)}
    predicted = costs.layer_times(keep)
    assert {n: (t.inputs, t.outputs) for n, t in predicted.items()} == {
        n: (s.inputs, s.outputs) for n, s in real.items()
    }
    assert predicted != costs.layer_times({})
    assert costs.ms(keep) == pytest.approx(sum(1e-6 * s.inputs * s.outputs for s in real.values()))


@pytest.mark.parametrize("rest", [None, 0.003])
@pytest.mark.parametrize("measured", [0.001, 0.5])
def test_whole_network_is_predicted_as_it_was_measured(measured, rest):
    """Below the sum of the table, and above it."""
    costs = costs_of(network(), EXAMPLE, measured_ms=measured, beside=Beside(0.0004, 0.0002, rest))
    assert costs.ms({}) == pytest.approx(measured)
    assert sum(costs.parts.values()) == pytest.approx(measured)
    assert costs.share({}) == 1.0


def test_rest_shrinks_with_the_activations_and_the_call_does_not():
    module = network()
    groups = find_groups(module, EXAMPLE)
    layers = layers_of(module, EXAMPLE)

    class Free:
        def ms(self, sizes):
            return dict.fromkeys(sizes, 1e-9)

    costs = Costs(layers, groups, Free(), measured_ms=1.0, beside=Beside(call_ms=0.2))
    keep = halves(groups, costs)
    after = costs.layer_times(keep)
    volume = sum(layer.positions * after[layer.name].outputs for layer in layers)
    whole = sum(layer.positions * layer.sized.outputs for layer in layers)
    assert costs.ms(keep) == pytest.approx(0.2 + 0.8 * volume / whole)


def test_what_the_parts_do_not_explain_is_the_layers():
    """A network measured on a busier machine than its layers: all of them are slower, not the rest alone."""
    module = network()
    sizes = [layer.sized for layer in layers_of(module, EXAMPLE)]
    total = 1e-6 * sum(sized.inputs * sized.outputs for sized in sizes)
    costs = costs_of(module, EXAMPLE, measured_ms=3 * total + 0.06, beside=Beside(0.01, 0.03, 0.02))
    assert costs.parts == pytest.approx({"layers": 3 * total, "rest": 0.02, "kernels": 0.03, "call": 0.01})


def test_parts_that_are_more_than_the_whole_shrink_alike():
    costs = costs_of(network(), EXAMPLE, measured_ms=0.01, beside=Beside(0.01, 0.005, 0.02))
    assert costs.ms({}) == pytest.approx(0.01)
    assert costs.parts["rest"] == pytest.approx(2 * costs.parts["call"])
    assert all(part > 0 for part in costs.parts.values())


def test_starting_kernels_costs_the_same_for_narrow_layers_and_nothing_for_removed_ones():
    module = network()
    table = Multiplications()
    groups, layers = find_groups(module, EXAMPLE), layers_of(module, EXAMPLE)
    plain = Costs(layers, groups, table)
    costs = Costs(layers, groups, table, measured_ms=plain.ms({}) + 0.5, beside=Beside(kernels_ms=0.5, rest_ms=0.0))
    keep = halves(groups, costs)
    assert costs.ms(keep) == pytest.approx(plain.ms(keep) + 0.5)
    gone = {layers[1].name, layers[2].name}
    assert costs.ms(keep, gone) == pytest.approx(plain.ms(keep, gone) + 0.5 * (1 - 2 / len(layers)))


def test_removed_layers_take_no_time():
    costs = costs_of(network(), EXAMPLE, measured_ms=0.001)
    times = costs.layer_times({})
    gone = frozenset({"stages.1.0.conv1", "stages.1.0.conv2"})
    whole = sum(time.ms for time in times.values())
    assert costs.ms({}, gone) == pytest.approx(0.001 * (1 - sum(times[name].ms for name in gone) / whole))
    assert not gone & set(costs.layer_times({}, gone))


def test_the_table_is_asked_once_for_all_levels():
    """A question a width would start a measuring process each time."""
    table = Multiplications()
    module = network()
    costs = costs_of(module, EXAMPLE, table)
    assert len(table.asked) == 1
    for level in range(3):
        costs.ms({name: allowed[min(level, len(allowed) - 1)] for name, allowed in costs.levels.items()})
    assert len(table.asked) == 1
    costs.ms({"stem.0": 13})
    assert len(table.asked) == 2, "a width beside the levels is measured when it is asked for"


class Dense(nn.Module):
    """A layer whose input is what two others give."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 24, 3, padding=1)
        self.second = nn.Conv2d(24, 40, 3, padding=1)
        self.last = nn.Conv2d(64, 16, 1)
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        first = self.first(x).relu()
        both = torch.cat([first, self.second(first).relu()], 1)
        return self.head(self.last(both).relu().mean((2, 3)))


def test_concatenated_groups_add_up():
    example = torch.zeros(2, 3, 8, 8)
    table = Multiplications()
    costs = costs_of(Dense(), example, table)
    assert costs.layer_times({"first": 20, "second": 28})["last"].inputs == 48
    asked = len(table.asked)
    # 12 + 28 lies on the table's grid for 64 inputs, 12 + 32 between two steps.
    assert costs.layer_times({"first": 12, "second": 32})["last"].ms == 1e-6 * 48 * 16
    assert len(table.asked) == asked


class Attention(nn.Module):
    """Four heads; the names are those of timm's."""

    def __init__(self, width=16, heads=4):
        super().__init__()
        self.num_heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj((torch.softmax(q @ k.transpose(-2, -1), -1) @ v).transpose(1, 2).flatten(2))


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(8, 16)
        self.attention = Attention()
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        x = self.embed(x)
        return self.head((x + self.attention(x)).mean(1))


def test_heads_take_their_share_of_both_layers_and_of_the_scores():
    example = torch.randn(2, 6, 8)
    module = Tokens()
    costs = costs_of(module, example, measured_ms=1.0)
    times = costs.layer_times({"attention": 1})
    assert (times["attention.qkv"].outputs, times["attention.proj"].inputs) == (12, 4)
    # Scores and softmax of 4 heads: 2 * 4 * 6 * 6 values, beside 6 tokens of 16, 48 and 16, and 5 of the head.
    volume = 6 * (16 + 48 + 16) + 5 + 2 * 4 * 36
    layers = 1e-6 * (8 * 16 + 16 * 48 + 16 * 16 + 16 * 5)
    less = (1 - layers) * (6 * 36 + 2 * 3 * 36) / volume + 1e-6 * (16 * 36 + 12 * 16)
    assert costs.ms({"attention": 1}) == pytest.approx(1.0 - less)
    gone = {"attention.qkv", "attention.proj"}
    assert costs.levels["attention"] == (1, 2, 3, 4)
    assert costs.ms({"attention": 1}, gone) == pytest.approx(costs.ms({}, gone)), "scores go with the block"


@pytest.mark.parametrize(
    ("units", "channels", "expected"),
    [
        (32, 1, tuple(range(4, 33, 4))),
        (64, 1, tuple(range(8, 65, 8))),
        (30, 1, (4, 8, 12, 16, 20, 24, 28, 30)),
        (64, 4, tuple(range(4, 65, 4))),
        (3, 1, (3,)),
    ],
)
def test_levels_are_multiples_and_the_whole(units, channels, expected):
    assert levels(units, channels) == expected


@pytest.mark.parametrize("width", [8, 32, 48, 64, 96, 128, 160, 192, 256, 320, 576, 768, 1024, 2048, 3072])
def test_at_most_sixteen_widths_that_fill_registers(width):
    step = step_for(width)
    assert len(range(step, width + 1, step)) <= 16
    assert step % 4 == 0
    assert width <= 128 or step % 16 == 0
