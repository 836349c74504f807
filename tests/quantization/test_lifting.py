"""What torch.export makes of a network has its layers again, under their names, and gives what the network gives."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from compresslab.errors import ModelError
from compresslab.quantization.tracing import trace


def layers(graph: nn.Module) -> dict[str, str]:
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Embedding, nn.LayerNorm, nn.BatchNorm1d, nn.BatchNorm2d)
    return {name: type(part).__name__ for name, part in graph.named_modules() if isinstance(part, kinds)}


@pytest.mark.parametrize("name", ["vit", "bert"])
def test_a_transformer(name, build, images, ids):
    network = build(name)
    example = images if name == "vit" else ids
    graph = trace(network, example[:1])
    assert layers(graph) == layers(network)
    for batch in (example[:1], example[:7]):
        torch.testing.assert_close(graph(batch), network(batch), rtol=1e-4, atol=1e-5)
    assert {id(p) for p in graph.parameters()}.isdisjoint({id(p) for p in network.parameters()})
    assert sum(p.numel() for p in graph.parameters()) == sum(p.numel() for p in network.parameters())


def test_texts_of_any_length(build, ids):
    network = build("bert")
    graph = trace(network, ids)
    torch.testing.assert_close(graph(ids[:3, :5]), network(ids[:3, :5]), rtol=1e-4, atol=1e-5)


class Functional(nn.Module):
    """Weights handed to functions, as timm does: a normalization, `same` padding, groups, one input dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 4, 3, padding="same", bias=False), nn.BatchNorm2d(4)
        self.depthwise = nn.Conv2d(4, 4, 3, stride=2, padding=1, groups=4)
        self.line, self.head = nn.Conv1d(4, 4, 3, padding=1, dilation=1), nn.Linear(4, 3, bias=False)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        norm = self.norm
        x = functional.batch_norm(self.conv(x), norm.running_mean, norm.running_var, norm.weight, norm.bias)
        x = functional.relu_(self.depthwise(x)) if x.shape[0] > 0 else x
        return self.drop(self.head(self.line(x.flatten(2)).mean(2)))


def test_weights_handed_to_functions(images):
    torch.manual_seed(0)
    network = Functional().eval()
    nn.init.uniform_(network.norm.running_var, 0.5, 2.0)
    nn.init.normal_(network.norm.running_mean)
    graph = trace(network, images)
    assert layers(graph) == {"conv": "Conv2d", "depthwise": "Conv2d", "line": "Conv1d", "head": "Linear"}
    torch.testing.assert_close(graph(images), network(images), rtol=1e-4, atol=1e-5)


class Tied(nn.Module):
    """One matrix as table and as decoder, one linear layer called twice; it branches, so that it is exported."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.middle, self.decoder = nn.Embedding(9, 4), nn.Linear(4, 4), nn.Linear(4, 9)
        self.decoder.weight = self.words.weight

    def forward(self, ids: Tensor) -> Tensor:
        if ids.shape[1] > 99:
            raise ValueError
        return self.decoder(self.middle(torch.tanh(self.middle(self.words(ids))))).mean(1)


def test_shared_weights(build):
    torch.manual_seed(0)
    network, ids = Tied().eval(), torch.arange(8).reshape(2, 4)
    graph = trace(network, ids)
    assert sorted(layers(graph).values()) == ["Embedding", "Linear", "Linear"]
    assert [str(node.target) for node in graph.graph.nodes].count("middle") == 2
    torch.testing.assert_close(graph(ids), network(ids))


class FixedBatch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), 64) if x.shape[0] > 0 else x


def test_a_network_that_fixes_the_batch_size(images):
    with pytest.raises(ModelError, match=r"FixedBatch cannot be traced.*where `len\(x\)` would fix it"):
        trace(FixedBatch(), images)
