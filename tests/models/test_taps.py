"""Taps: what a named layer gave, and no trace of the watching afterwards."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from compresslab.errors import ModelError
from compresslab.models.residual_net import ResidualNet
from compresslab.models.taps import require_layers, tapped


class Odd(nn.Module):
    """Layers that return something else than one tensor, that run twice, or not at all."""

    def __init__(self):
        super().__init__()
        self.twice = nn.Linear(4, 4)
        self.recurrent = nn.LSTM(4, 3, batch_first=True)
        self.named = Named()
        self.blocks = nn.ModuleList([nn.Linear(4, 2)])
        self.unused = nn.Linear(4, 4)

    def forward(self, inputs):
        inputs = self.twice(self.twice(inputs))
        self.recurrent(inputs[:, None])
        self.named(inputs)
        return self.blocks[0](inputs)


class Named(nn.Module):
    def forward(self, inputs):
        return {"features": inputs}


@pytest.fixture
def net():
    return ResidualNet(3, 1, widths=(4, 6), blocks=(1, 1), strides=(1, 2), stem=(4, 3, 1)).eval()


def hooks(module):
    return [part for part in module.modules() if part._forward_hooks]


def test_layers_are_seen_as_they_run(net):
    images = torch.randn(2, 1, 8, 8)
    with torch.no_grad(), tapped(net, ["stem", "stages.1.0", "head"]) as seen:
        logits = net(images)
    assert set(seen) == {"stem", "stages.1.0", "head"}
    torch.testing.assert_close(seen["stem"], net.stem(images))
    torch.testing.assert_close(seen["stages.1.0"], net.stages(net.stem(images)))
    assert seen["head"] is logits
    assert not hooks(net)


def test_gradients_flow_through_what_was_seen(net):
    """Features are learned from: a detached copy would leave the student as it is."""
    with tapped(net, ["stem"]) as seen:
        net(torch.randn(2, 1, 8, 8))
    seen["stem"].sum().backward()
    assert net.stem[0].weight.grad is not None


def test_the_last_of_several_runs_and_the_first_of_a_tuple_are_seen():
    odd, inputs = Odd(), torch.randn(2, 4)
    with torch.no_grad(), tapped(odd, ["twice", "recurrent"]) as seen:
        odd(inputs)
    torch.testing.assert_close(seen["twice"], odd.twice(odd.twice(inputs)))
    assert seen["recurrent"].shape == (2, 1, 3)
    assert not hooks(odd)


def test_a_layer_without_a_tensor_is_told():
    odd = Odd()
    message = "layer `named` returns a dict, not a tensor; name another layer"
    with pytest.raises(ModelError, match=message), tapped(odd, ["twice", "named"]):
        odd(torch.randn(2, 4))
    assert not hooks(odd)


@pytest.mark.parametrize(("name", "kind"), [("blocks", "ModuleList"), ("unused", "Linear")])
def test_a_layer_that_never_runs_is_told(name, kind):
    """A list of blocks has a name like a layer, but is only ever looked into."""
    odd = Odd()
    message = rf"layer `{name}` \({kind}\) is not run by its network.*; name another layer"
    with pytest.raises(ModelError, match=message), tapped(odd, ["twice", name]):
        odd(torch.randn(2, 4))
    assert not hooks(odd)


def test_hooks_are_gone_after_an_error_inside(net):
    with pytest.raises(RuntimeError, match="expected input"), tapped(net, ["stem"]):
        net(torch.randn(2, 5, 8, 8))
    assert not hooks(net)


def test_hooks_are_gone_where_one_cannot_be_set(net):
    with pytest.raises(AttributeError, match="stern"), tapped(net, ["stem", "stern"]):
        pass
    assert not hooks(net)


def test_other_hooks_stay(net):
    handle = net.stem.register_forward_hook(lambda *_: None)
    with torch.no_grad(), tapped(net, ["stem"]):
        net(torch.randn(1, 1, 8, 8))
    assert list(net.stem._forward_hooks) == [handle.id]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("stage.1", r"the student has no layer `stage\.1`; did you mean `stages\.1`\?"),
        (
            "haed",
            r"the student has no layer `haed`; did you mean `head`\? It has `head`, `stages`, `stem`, `stages\.0`",
        ),
        ("x", r"the student has no layer `x`.* and \d+ more$"),
        ("", "the student has no layer ``"),
    ],
)
def test_a_layer_that_is_not_there(net, name, message):
    with pytest.raises(ModelError, match=message):
        require_layers(net, ["stem", name], "the student")


def test_layers_that_are_there(net):
    require_layers(net, ["stem", "stages.1.0.conv1", "head"], "the student")
    require_layers(net, [], "the student")
