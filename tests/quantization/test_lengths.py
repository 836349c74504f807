"""Texts of any length: calibrated, trained, exported and run at lengths that were not traced."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.minilm import MiniLM
from compresslab.errors import DataError
from compresslab.export.compact import compact, to_bytes
from compresslab.export.rewrite import rewrite
from compresslab.measure.session import SessionOptions, open_session
from compresslab.quantization import QuantizerSettings, calibrate, convert, prepare
from tests.torchvision_operators import define

LENGTHS = (3, 17, 64)


def ids(count: int, length: int, seed: int) -> Tensor:
    """int64 [count, length], padded with 0 behind some; the first is full."""
    generator = torch.Generator().manual_seed(seed)
    real = torch.randint(2, length + 1, (count, 1), generator=generator)
    real[0] = length
    return torch.where(torch.arange(length) < real, torch.randint(1, 50, (count, length), generator=generator), 0)


def written(network: nn.Module, folder: Path) -> Path:
    """With batch and sequence open."""
    program = torch.onnx.export(
        network, (ids(2, 9, 0),), dynamo=True, external_data=False, opset_version=18, input_names=["input_ids"],
        output_names=["logits"], dynamic_shapes=({0: "batch", 1: "sequence"},), verbose=False,
    )  # fmt: skip
    assert program is not None
    rewrite(program.model)
    compact(program.model)
    path = folder / "model.onnx"
    path.write_bytes(to_bytes(program.model))
    return path


def decibels(expected: np.ndarray, found: np.ndarray) -> float:
    return float(10 * np.log10(np.square(expected).sum() / np.square(expected - found).sum()))


class AnyLength(MiniLM):
    """MiniLM with as many positions as there are tokens."""

    def forward(self, given: Tensor) -> Tensor:
        real = (given != 0).to(torch.float32)
        bias = ((real - 1.0) * 1e4).unsqueeze(1).unsqueeze(1)
        x = self.norm(self.words(given) + self.position[:, : given.shape[1]])
        for layer in self.layers[:1]:
            x = layer(x, bias)
        return functional.normalize((x * real.unsqueeze(-1)).sum(1) / real.sum(1, keepdim=True), dim=-1)


class Logits(nn.Module):
    """A classifier of Hugging Face: one tensor in, one out."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, given: Tensor) -> Tensor:
        return self.network(input_ids=given, attention_mask=(given != 0).long()).logits


def minilm() -> nn.Module:
    return AnyLength()


def bert() -> nn.Module:
    define()
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=60, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, num_labels=3,
        max_position_embeddings=80,
    )  # fmt: skip
    return Logits(transformers.BertForSequenceClassification(config))


def distilbert() -> nn.Module:
    define()
    transformers = pytest.importorskip("transformers")
    config = transformers.DistilBertConfig(
        vocab_size=60, dim=32, n_layers=1, n_heads=2, hidden_dim=64, num_labels=3, max_position_embeddings=80
    )
    return Logits(transformers.DistilBertForSequenceClassification(config))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "make", [pytest.param(bert, marks=pytest.mark.slow), pytest.param(distilbert, marks=pytest.mark.slow),
             pytest.param(minilm, marks=pytest.mark.slow)],
)  # fmt: skip
def test_every_length_is_answered_as_torch_does(make, tmp_path):
    torch.manual_seed(0)
    network = make().eval()
    prepared = prepare(network, ids(4, 9, 0), QuantizerSettings())
    calibrate(prepared, [ids(8, length, length) for length in (9, 5, 30, 64)])
    prepared.train()(ids(3, 21, 1)).sum().backward()
    assert any(parameter.grad is not None for parameter in prepared.parameters())
    converted = convert(prepared.eval())
    session = open_session(written(converted, tmp_path), SessionOptions(), 1)
    assert session.get_inputs()[0].shape == ["batch", "sequence"]
    for length in LENGTHS:
        batch = ids(5, length, 100 + length)
        found = session.run(None, {"input_ids": batch.numpy()})[0]
        with torch.no_grad():
            # One value on the other side of a rounding may move the answers of a network this small by -45 dB.
            assert decibels(converted(batch).numpy(), found) > 40, length
            assert decibels(network(batch).numpy(), found) > 25, length


@pytest.mark.slow
def test_lengths_may_change_from_batch_to_batch(build):
    """The bert-like network: ranges and gradients from other lengths than the traced one."""
    network = build("bert")
    prepared = prepare(network, ids(4, 9, 0), QuantizerSettings())
    calibrate(prepared, [ids(8, length, length) for length in (9, 4, 16)])
    for length in (3, 16):
        batch = ids(5, length, length)
        with torch.no_grad():
            assert decibels(network(batch).numpy(), convert(prepared)(batch).numpy()) > 25
    prepared.train()(ids(3, 7, 1)).sum().backward()
    assert prepared.get_submodule("head").layer.weight.grad is not None


class Branching(nn.Module):
    """Takes another path with long texts: traced with one, it would give short ones twice the answer."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(50, 8), nn.Linear(8, 3)

    def forward(self, given: Tensor) -> Tensor:
        mean = self.words(given).mean(1)
        return self.head(mean * 2 if given.shape[1] > 8 else mean)


class Placed(nn.Module):
    """Has nine places: a text of one token would be read nine times."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(50, 8), nn.Linear(8, 3)
        self.places = nn.Parameter(torch.randn(1, 9, 8))

    def forward(self, given: Tensor) -> Tensor:
        if len(given.shape) != 2:
            raise ValueError
        return self.head((self.words(given) + self.places).mean(1))


@pytest.mark.parametrize(
    ("network", "length", "allowed"), [(Branching(), 6, "9 or more"), (Placed(), 1, "9")], ids=["branch", "places"]
)
def test_a_length_that_takes_another_path_is_told(network, length, allowed):
    """Without a word, ranges or gradients would be those of another function."""
    prepared = prepare(network.eval(), ids(4, 9, 0), QuantizerSettings())
    other = torch.ones(8, length, dtype=torch.long)
    told = rf"shape \(8, {length}\) do not fit.*takes {allowed} in dimension 1"
    with pytest.raises(DataError, match=told):
        calibrate(prepared, [ids(8, 9, 1), other])
    again = prepare(network.eval(), ids(4, 9, 0), QuantizerSettings())
    calibrate(again, [ids(8, 9, 1)])
    with pytest.raises(DataError, match=told):
        again.train()(other)
