"""Transformers in INT8: which kernels ONNX Runtime runs, what they answer, and what the file weighs."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from compresslab.export.integer_operators import integer_operators
from compresslab.measure.session import SessionOptions, open_session
from compresslab.quantization import QuantizerSettings, calibrate, convert, prepare
from compresslab.quantization.integer import IntegerEmbedding
from tests.torchvision_operators import define

LAYERS = {"vit": 1 + 2 * 4 + 1, "bert": 2 * 4 + 1}


def quantized(network: nn.Module, example: Tensor, **settings) -> tuple[nn.Module, nn.Module]:
    prepared = prepare(network, example, QuantizerSettings(**settings))
    calibrate(prepared, [example])
    return prepared, convert(prepared)


def kernels(path: Path, tmp_path: Path) -> Counter:
    open_session(path, SessionOptions(), 1, optimized=tmp_path / "optimized.onnx")
    return Counter(node.op_type for node in onnx.load(str(tmp_path / "optimized.onnx")).graph.node)


def run(path: Path, example: Tensor) -> np.ndarray:
    session = open_session(path, SessionOptions(), 1)
    return session.run(None, {session.get_inputs()[0].name: example.numpy()})[0]


def decibels(expected: np.ndarray, found: np.ndarray) -> float:
    return float(10 * np.log10(np.square(expected).sum() / np.square(expected - found).sum()))


@pytest.mark.parametrize("name", ["vit", "bert"])
def test_every_layer_runs_as_an_integer_kernel(name, build, images, ids, to_file, tmp_path):
    network, example = build(name), images if name == "vit" else ids
    _, converted = quantized(network, example)
    path = to_file(converted, example)
    found = kernels(path, tmp_path)
    integer = found["QLinearConv"] + found["QGemm"]
    assert integer == LAYERS[name], "MatMulIntegerToFloat would leave the bias to a kernel of its own"
    assert not {"Conv", "Gemm"} & set(found)
    assert found["MatMul"] + found["FusedMatMul"] == 4, "attention stays float"
    counted = integer_operators(path, SessionOptions())
    assert counted.integer == LAYERS[name]
    with torch.no_grad():
        simulated, original = converted(example).numpy(), network(example).numpy()
    assert decibels(original, run(path, example)) > 30
    assert decibels(simulated, run(path, example)) > 35


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vit", "bert"])
def test_attention_on_integers_on_request(name, build, images, ids, to_file, tmp_path):
    network, example = build(name), images if name == "vit" else ids
    prepared, converted = quantized(network, example, attention="int8")
    path = to_file(converted, example)
    found = kernels(path, tmp_path)
    assert found["MatMul"] + found["FusedMatMul"] == 0
    assert integer_operators(path, SessionOptions()).integer == LAYERS[name] + 4
    with torch.no_grad():
        assert decibels(network(example).numpy(), run(path, example)) > 20
        assert decibels(prepared(example).numpy(), run(path, example)) > 30


def test_attention_taken_apart_is_the_same_attention(build, ids):
    """The mask too: half of the padded places would change the answer."""
    network = build("bert")
    prepared = prepare(network, ids, QuantizerSettings(attention="int8", keep_float=(), smoothing=0.0))
    for part in prepared.modules():
        if hasattr(part, "weights"):
            part.weights = nn.Identity()
    torch.testing.assert_close(prepared(ids), network(ids), rtol=1e-4, atol=1e-5)


def test_embeddings_are_rows_of_int8(build, ids):
    network = build("bert")
    with torch.no_grad():
        network.words.weight[7] *= 100.0  # one scale for all would leave the others a few steps
    _, converted = quantized(network, ids)
    tables = {name: part for name, part in converted.named_modules() if isinstance(part, IntegerEmbedding)}
    assert set(tables) == {"words", "places"}
    assert tables["words"].weight.dtype == torch.int8
    expected = network.words.weight.detach()
    error = (tables["words"](torch.arange(50)) - expected).abs()
    assert (error <= expected.abs().amax(1, keepdim=True) / 254 + 1e-6).all()
    assert torch.equal(tables["words"](torch.tensor([0])), torch.zeros(1, 32)), "padding stays zero"


def test_embeddings_alone(ids):
    """A table of static vectors has nothing to calibrate, and a file a quarter of the size."""

    class Static(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(50, 32)

        def forward(self, ids: Tensor) -> Tensor:
            return self.words(ids).mean(1)

    network = Static().eval()
    _, converted = quantized(network, ids)
    assert converted.get_submodule("words").weight.dtype == torch.int8
    assert (converted(ids) - network(ids)).abs().max() < 0.02


@pytest.mark.slow
def test_the_file_is_a_quarter(to_file, ids, build):
    """Beyond 200,000 parameters, what is not weights no longer counts."""
    kind = type(build("bert"))
    torch.manual_seed(0)
    network = kind(words=2000, width=96).eval()
    assert sum(p.numel() for p in network.parameters()) > 200_000
    _, converted = quantized(network, ids)
    assert to_file(converted, ids).stat().st_size <= 0.28 * to_file(network, ids).stat().st_size


@pytest.mark.parametrize("name", ["vit", pytest.param("bert", marks=pytest.mark.slow)])
def test_training_with_learned_scales(name, build, images, ids, to_file):
    """The loss falls, every weight and scale has a gradient, and the exported file predicts what was trained."""
    example = images if name == "vit" else ids
    targets = torch.arange(64) % 3
    prepared, _ = quantized(build(name), example, learn_scales=True)
    prepared.train()
    optimizer = torch.optim.Adam(prepared.parameters(), 3e-3)
    losses = []
    for _ in range(20):
        loss = nn.functional.cross_entropy(prepared(example), targets)
        optimizer.zero_grad()
        loss.backward()
        assert all(parameter.grad is not None for parameter in prepared.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    prepared.eval()
    with torch.no_grad():
        simulated = prepared(example).numpy()
    found = run(to_file(convert(prepared), example), example)
    assert (found.argmax(1) == simulated.argmax(1)).mean() >= 0.98
    assert decibels(simulated, found) > 25


@pytest.fixture(scope="module")
def torchvision_operators() -> None:
    define()


def hugging_face_vit() -> tuple[nn.Module, Tensor, int]:
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, image_size=16, patch_size=8,
        num_channels=1, num_labels=3,
    )  # fmt: skip
    return transformers.ViTForImageClassification(config), torch.randn(8, 1, 16, 16), 1 + 6 + 1


def hugging_face_bert() -> tuple[nn.Module, Tensor, int]:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=60, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, num_labels=3,
        max_position_embeddings=20,
    )  # fmt: skip
    return transformers.BertForSequenceClassification(config), torch.randint(1, 60, (8, 10)), 6 + 2


class Logits(nn.Module):
    """One tensor in, one out."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        if x.is_floating_point():
            return self.network(x).logits
        return self.network(input_ids=x, attention_mask=(x != 0).long()).logits


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", [hugging_face_vit, hugging_face_bert])
@pytest.mark.usefixtures("torchvision_operators")
def test_networks_of_hugging_face(make, to_file, tmp_path):
    torch.manual_seed(0)
    network, example, expected = make()
    network = Logits(network).eval()
    _, converted = quantized(network, example)
    path = to_file(converted, example)
    found = kernels(path, tmp_path)
    assert found["QLinearConv"] + found["MatMulIntegerToFloat"] + found["QGemm"] == expected
    with torch.no_grad():
        assert decibels(network(example).numpy(), run(path, example)) > 25


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("torchvision_operators")
def test_a_vit_of_timm(to_file, tmp_path):
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    network = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=1, num_classes=3).eval()
    example = torch.randn(8, 3, 32, 32)
    _, converted = quantized(network, example)
    path = to_file(converted, example)
    found = kernels(path, tmp_path)
    assert found["QLinearConv"] + found["MatMulIntegerToFloat"] + found["QGemm"] == 1 + 4 + 1
    assert path.stat().st_size <= 0.28 * to_file(network, example).stat().st_size
    with torch.no_grad():
        assert decibels(network(example).numpy(), run(path, example)) > 25
