"""What all of it is for: in ONNX Runtime, every operator runs as an integer kernel, and answers as torch does."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from compresslab.candidate import TorchModel
from compresslab.export import export
from compresslab.measure.artifact import Artifact
from compresslab.measure.preprocessing import ImagePreprocessing
from compresslab.measure.session import SessionOptions, open_session
from compresslab.quantization import QuantizerSettings, calibrate, convert, prepare

IMAGES = ImagePreprocessing(height=8, width=8, channels=1, mean=(0.5,), std=(0.5,))


@dataclass(frozen=True)
class Exported:
    float_network: nn.Module
    converted: nn.Module
    artifact: Artifact


@pytest.fixture(scope="module")
def exported(build, images, tmp_path_factory) -> Callable[[str], Exported]:
    made: dict[str, Exported] = {}

    def obtain(name: str) -> Exported:
        if name not in made:
            network = build(name)
            prepared = prepare(network, images, QuantizerSettings())
            calibrate(prepared, [images])
            converted = convert(prepared)
            artifact = export(
                TorchModel(converted, None), tmp_path_factory.mktemp(name),
                preprocessing=IMAGES, labels=("a", "b", "c"), inputs=images.numpy(), provenance={},
            )  # fmt: skip
            made[name] = Exported(network, converted, artifact)
        return made[name]

    return obtain


def run(artifact: Artifact, images: Tensor) -> np.ndarray:
    return open_session(artifact.graphs["model"], SessionOptions(), 1).run(None, {"input": images.numpy()})[0]


@pytest.mark.parametrize(
    ("name", "operators"),
    [
        ("residual", 6 + 2 + 1 + 1),
        ("vgg", 2 + 1 + 2),
        ("mobile", 4 + 1 + 1 + 1),
        ("gated", 5 + 1 + 2 + 1),
        ("dense", 4 + 2 + 1),
    ],
)
def test_every_operator_runs_as_an_integer_kernel(name, operators, exported):
    """Convolutions (depthwise and odd widths too), sums, average pools, and linear layers with the one that answers."""
    found = exported(name).artifact.manifest.integer_operators
    assert (found.integer, found.eligible) == (operators, operators)
    activations = ["behind stem.0 (HardSwish)"] if name == "gated" else []
    assert [line.partition(":")[0] for line in found.floating] == activations, "what has no integer kernel"


def test_gates_and_concatenations_are_computed_on_integers(exported, tmp_path):
    """They are not counted, as ONNX Runtime could as well pass the floats on; here it must not."""
    for name, operators in (("gated", {"QLinearMul": 1, "QLinearSigmoid": 1}), ("dense", {"QLinearConcat": 2})):
        optimized = tmp_path / f"{name}.onnx"
        open_session(exported(name).artifact.graphs["model"], SessionOptions(), 1, optimized=optimized)
        found = Counter(node.op_type for node in onnx.load(str(optimized)).graph.node)
        assert {operator: found[operator] for operator in operators} == operators
        assert not {"Conv", "Gemm", "Concat", "Sigmoid", "Clip", "Relu"} & set(found)


@pytest.mark.parametrize("name", ["residual", "vgg", "mobile", "gated", "dense"])
def test_onnx_runtime_agrees_with_torch(name, exported, images):
    of = exported(name)
    with torch.no_grad():
        simulated, original = of.converted(images).numpy(), of.float_network(images).numpy()
    found = run(of.artifact, images)
    assert np.abs(found - simulated).max() < 0.03 * np.abs(simulated).max()
    assert np.square(found - original).mean() < 0.002 * np.square(original).mean()


def test_any_batch_size_gives_the_same_answers(exported, images):
    artifact = exported("residual").artifact
    one_by_one = np.concatenate([run(artifact, image) for image in images[:5].split(1)])
    np.testing.assert_allclose(one_by_one, run(artifact, images)[:5], rtol=1e-6, atol=1e-7)


def test_the_file_holds_int8_weights_and_hardly_anything_else(exported):
    of = exported("residual")
    graph = onnx.load(str(of.artifact.graphs["model"])).graph
    stored = sum(tensor.ByteSize() for tensor in graph.initializer)
    weights = sum(np.prod(tensor.dims) for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.INT8)
    assert weights >= 0.95 * sum(p.numel() for p in of.float_network.parameters() if p.dim() > 1)
    assert of.artifact.bytes - stored < 2500
