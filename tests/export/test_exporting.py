"""From a torch network to an artifact. Each export takes seconds, so one serves many tests."""

import copy
import json
import logging
import warnings

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from compresslab.candidate import OnnxModel, TorchModel
from compresslab.errors import ArtifactError, DataError, ModelError, ParityError
from compresslab.export import export
from compresslab.measure.artifact import Artifact, load_artifact
from compresslab.measure.measurement import IntegerOperators
from compresslab.measure.session import SessionOptions, open_session
from compresslab.models.residual_net import ResidualNet

INPUTS = np.random.default_rng(0).normal(size=(64, 1, 8, 8)).astype(np.float32)
LABELS = ("cat", "dog", "cow")


@pytest.fixture(scope="module")
def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = ResidualNet(3, 1, widths=(8, 12), blocks=(1, 1), strides=(1, 2), stem=(8, 3, 1))
        with torch.no_grad():
            for _ in range(10):
                made(torch.randn(32, 1, 8, 8))
    return made.train()


@pytest.fixture(scope="module")
def settings(preprocessing) -> dict:
    return {"preprocessing": preprocessing, "labels": LABELS, "inputs": INPUTS, "provenance": {"seed": 1}}


@pytest.fixture(scope="module")
def artifact(network, settings, tmp_path_factory) -> Artifact:
    before = copy.deepcopy(network.state_dict())
    made = export(TorchModel(network, None), tmp_path_factory.mktemp("first"), **settings)
    assert all(part.training for part in network.modules()), "the network is left as it was"
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    return made


def proto(artifact: Artifact) -> onnx.ModelProto:
    return onnx.load(str(artifact.graphs["model"]))


def test_the_folder_is_an_artifact(artifact):
    loaded = load_artifact(artifact.folder)
    assert loaded.manifest == artifact.manifest
    manifest = json.loads((artifact.folder / "manifest.json").read_text())
    assert manifest["labels"] == list(LABELS)
    assert manifest["provenance"] == {"seed": 1}
    (graph,) = manifest["graphs"].values()
    assert graph["inputs"] == [{"name": "input", "dtype": "float32", "shape": ["batch", 1, 8, 8]}]
    assert graph["outputs"] == [{"name": "logits", "dtype": "float32", "shape": ["batch", 3]}]
    assert graph["opset"] >= 18
    assert sorted(file.name for file in artifact.folder.iterdir()) == ["manifest.json", "model.onnx"]


def test_what_it_costs_is_that_of_the_network(artifact, network):
    """By hand: the normalizations are folded, one bias for each output channel."""
    weights = 8 * 9 + 2 * 8 * 8 * 9 + 8 * 12 * 9 + 12 * 12 * 9 + 8 * 12 + 12 * 3
    biases = 8 + 2 * 8 + 3 * 12 + 3
    assert artifact.manifest.params == weights + biases
    large, small = 64 * (8 * 9 + 2 * 8 * 8 * 9), 16 * (8 * 12 * 9 + 12 * 12 * 9 + 8 * 12)
    assert artifact.manifest.macs == large + small + 12 * 3


def test_it_computes_what_torch_computes(artifact, network):
    parity = artifact.manifest.parity
    assert parity is not None
    assert parity.n == 64
    assert parity.max_abs_diff < 1e-5
    with torch.no_grad():
        expected = copy.deepcopy(network).eval()(torch.from_numpy(INPUTS[:3])).numpy()
    session = open_session(artifact.graphs["model"], SessionOptions(), 1)
    np.testing.assert_allclose(session.run(None, {"input": INPUTS[:3]})[0], expected, rtol=1e-4, atol=1e-5)


def test_the_same_network_gives_the_same_bytes(artifact, network, settings, tmp_path):
    """Whatever else was exported before, and whatever the layout of the weights in memory."""
    relaid = copy.deepcopy(network).to(memory_format=torch.channels_last)
    again = export(TorchModel(relaid, None), tmp_path / "deep" / "er", **settings)
    assert again.graphs["model"].read_bytes() == artifact.graphs["model"].read_bytes()


def test_nothing_is_printed_logged_or_warned(network, settings, tmp_path, capfd, caplog):
    with warnings.catch_warnings(), caplog.at_level(logging.DEBUG, "torch.onnx"):
        warnings.simplefilter("error")
        export(TorchModel(network, None), tmp_path, **settings)
    assert capfd.readouterr() == ("", "")
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_the_file_is_little_more_than_the_weights(artifact):
    model = proto(artifact)
    assert artifact.bytes - 4 * artifact.manifest.params < 1800
    assert not model.metadata_props
    assert not model.graph.value_info
    assert not any(node.doc_string or node.metadata_props for node in model.graph.node)
    inner = {name for node in model.graph.node for name in (*node.input, *node.output)} - {"input", "logits"}
    assert max(map(len, inner)) <= 2
    onnx.checker.check_model(model, full_check=True)


def test_layers_keep_their_names(artifact):
    """For profiles, and for reports that name an operator."""
    names = [node.name for node in proto(artifact).graph.node if node.op_type in ("Conv", "Gemm")]
    assert names == [
        "stem.0", "stages.0.0.conv1", "stages.0.0.conv2",
        "stages.1.0.conv1", "stages.1.0.conv2", "stages.1.0.shortcut.0", "head",
    ]  # fmt: skip


def test_a_float_model_has_no_eligible_operator(artifact):
    assert artifact.manifest.integer_operators == IntegerOperators(0, 0)


class TwoFaced(nn.Module):
    """Computes something else while it is exported."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :3] * (1.5 if torch.compiler.is_exporting() else 1.0)


def test_a_graph_that_disagrees(settings, tmp_path):
    worst = int(np.abs(INPUTS.reshape(64, -1)[:, :3]).max(1).argmax())
    with pytest.raises(ParityError, match=rf"differ by .* over 64 inputs. The worst: input {worst}: torch"):
        export(TorchModel(TwoFaced(), None), tmp_path, **settings)
    assert not (tmp_path / "manifest.json").exists()


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) if x.sum() > 0 else -x.flatten(1)


def test_a_network_that_cannot_be_exported(settings, tmp_path):
    with pytest.raises(ModelError, match=r"Branching cannot be exported to ONNX: .*let `forward` take one tensor"):
        export(TorchModel(Branching(), None), tmp_path, **settings)


def test_one_input_is_not_enough(network, settings, tmp_path):
    with pytest.raises(DataError, match="at least two, but got 1"):
        export(TorchModel(network, None), tmp_path, **{**settings, "inputs": INPUTS[:1]})


def test_an_onnx_file_is_copied_without_its_debug_data(artifact, settings, tmp_path):
    model = proto(artifact)
    for node in model.graph.node:
        node.doc_string = "long " * 100
        node.metadata_props.add(key="stack", value="trace " * 100)
    model.graph.input[0].name = model.graph.node[0].input[0] = "pixels"
    onnx.save(model, str(tmp_path / "given.onnx"))
    before = (tmp_path / "given.onnx").read_bytes()
    copied = export(OnnxModel(tmp_path / "given.onnx"), tmp_path / "out", **settings)
    assert copied.bytes < artifact.bytes + 100
    assert copied.manifest.parity is None
    assert copied.manifest.params == artifact.manifest.params
    assert copied.manifest.graphs["model"].inputs[0].name == "pixels"
    assert (tmp_path / "given.onnx").read_bytes() == before
    outputs = [
        open_session(path, SessionOptions(), 1).run(None, {name: INPUTS})[0]
        for path, name in ((copied.graphs["model"], "pixels"), (artifact.graphs["model"], "input"))
    ]
    np.testing.assert_array_equal(*outputs)


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x0a" * 40])
def test_a_file_that_is_not_onnx(content, settings, tmp_path):
    (tmp_path / "given.onnx").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"given\.onnx: "):
        export(OnnxModel(tmp_path / "given.onnx"), tmp_path / "out", **settings)


def test_a_file_that_is_missing(settings, tmp_path):
    with pytest.raises(ArtifactError, match=r"gone\.onnx: not a readable ONNX file"):
        export(OnnxModel(tmp_path / "gone.onnx"), tmp_path / "out", **settings)


def test_a_network_as_training_leaves_it_is_exported_like_a_new_one(settings, tmp_path) -> None:
    """Training turns weights to channels last, in which a flattened mean was exported as strides of memory."""
    torch.manual_seed(0)
    new = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)).eval()
    trained = copy.deepcopy(new).to(memory_format=torch.channels_last)
    made = [export(TorchModel(one, None), tmp_path / name, **settings) for name, one in (("a", new), ("b", trained))]
    assert made[0].sha256 == made[1].sha256
    assert trained[0].weight.is_contiguous(memory_format=torch.channels_last), "the argument is left as it is"
    assert made[1].manifest.macs == 36 * 8 * 9 + 8 * 3
