import json
import subprocess
import sys

import pytest
import safetensors.torch
import torch
import torch_pruning as tp

from compresslab.candidate import TorchModel
from compresslab.errors import ModelError
from compresslab.models import ModelSpec, Residual, Signature
from compresslab.models.architecture import describe, digest, load, rebuild, save
from compresslab.models.builder import PythonBuilder

IMAGES = torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(3))

MODULE = """
import torch
from torch import nn

class Grouped(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, stride=2, padding=1)
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm = nn.GroupNorm(1, width)
        self.act = nn.PReLU(width)
        self.up = nn.ConvTranspose2d(width, width, 2, 2)
        self.batch = nn.BatchNorm2d(width)
        self.scale = nn.Parameter(torch.ones(width, 1, 1))
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        x = self.act(self.norm(self.depthwise(self.stem(x))))
        return self.head((self.batch(self.up(x)) * self.scale).mean((2, 3)))

def build(width=16):
    return Grouped(width)
"""


def residual(seed=0, **settings):
    torch.manual_seed(seed)
    model = ModelSpec(residual=Residual(**({"widths": (16, 32), "blocks": 2} | settings))).build(
        Signature("images", 1, 10)
    )
    model.module.train()
    model.module(torch.randn(8, 1, 28, 28))  # BatchNorm statistics of its own
    model.module.eval()
    return model


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A network of the user's own, and the reference to its builder."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "own_net.py").write_text(MODULE)
    torch.manual_seed(0)
    reference = f"{tmp_path}/own_net.py:build"
    yield ModelSpec(python=reference, arguments={"width": 24}).build(Signature("images", 1, 10)), reference
    sys.modules.pop("own_net", None)


def prune(model, ratio=0.4, round_to=None):
    pruner = tp.pruner.MagnitudePruner(
        model.module, IMAGES[:1], tp.importance.MagnitudeImportance(p=2), pruning_ratio=ratio, round_to=round_to,
        ignored_layers=[model.module.head],
    )  # fmt: skip
    pruner.step()
    return model


def test_a_network_comes_back_bit_for_bit(tmp_path):
    model = residual()
    save(model, tmp_path)
    again = load(tmp_path)
    assert torch.equal(again.module(IMAGES), model.module(IMAGES))
    assert again.builder == model.builder
    assert not again.module.training
    assert sorted(path.name for path in tmp_path.iterdir()) == ["architecture.json", "weights.safetensors"]


@pytest.mark.parametrize("plain", [False, True])
def test_a_pruned_network_comes_back_bit_for_bit_in_another_process(tmp_path, plain):
    model = prune(residual(residual=not plain))
    widths = [m.out_channels for m in model.module.modules() if isinstance(m, torch.nn.Conv2d)]
    assert min(widths) < 16, "something was pruned"
    save(model, tmp_path / "pruned")
    safetensors.torch.save_file({"images": IMAGES}, tmp_path / "images")
    code = f"""
import safetensors.torch
from pathlib import Path
from compresslab.models.architecture import load
images = safetensors.torch.load_file({str(tmp_path / "images")!r})["images"]
outputs = load(Path({str(tmp_path / "pruned")!r})).module(images).detach()
safetensors.torch.save_file({{"outputs": outputs}}, {str(tmp_path / "outputs")!r})
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    outputs = safetensors.torch.load_file(tmp_path / "outputs")["outputs"]
    assert torch.equal(outputs, model.module(IMAGES))


def test_a_pruned_network_is_pruned_and_trained_again(tmp_path):
    """Catches layers that look right but whose attributes or parameters are not what torch expects."""
    save(prune(residual()), tmp_path / "once")
    again = load(tmp_path / "once")
    before = sum(p.numel() for p in again.module.parameters())
    prune(again)
    assert sum(p.numel() for p in again.module.parameters()) < before
    optimizer = torch.optim.SGD(again.module.parameters(), 0.1)
    outputs = again.module(IMAGES).detach()
    again.module(IMAGES).square().mean().backward()
    optimizer.step()
    assert not torch.equal(again.module(IMAGES), outputs)
    save(again, tmp_path / "twice")
    assert torch.equal(load(tmp_path / "twice").module(IMAGES), again.module(IMAGES))


def test_layers_say_their_new_sizes(tmp_path):
    save(prune(residual()), tmp_path)
    for module in load(tmp_path).module.modules():
        if isinstance(module, torch.nn.Conv2d):
            assert module.weight.shape[:2] == (module.out_channels, module.in_channels // module.groups)
        if isinstance(module, torch.nn.BatchNorm2d):
            assert module.weight.shape == (module.num_features,)


@pytest.mark.filterwarnings("ignore:Unwrapped parameters detected")
def test_a_network_of_the_users_own_comes_back_pruned(tmp_path, own):
    model, reference = own
    prune(model, 0.25)
    assert model.module.depthwise.groups < 24
    save(model, tmp_path / "saved")
    again = load(tmp_path / "saved", [reference])
    assert torch.equal(again.module(IMAGES), model.module(IMAGES))
    assert again.module.depthwise.groups == model.module.depthwise.groups
    assert again.module.scale.shape == model.module.scale.shape != (24, 1, 1)


def test_code_that_only_a_file_names_is_not_run(tmp_path, own):
    """A checkpoint is data from anywhere: without the user's word it must not choose what is imported."""
    model, reference = own
    save(model, tmp_path / "saved")
    with pytest.raises(ModelError, match=r"is built by `own_net:build`, and code that only a file names is not run"):
        load(tmp_path / "saved")
    with pytest.raises(ModelError, match="add `python: own_net:build` beside `checkpoint`"):
        load(tmp_path / "saved", [reference.replace("build", "other")])


def test_changed_code_is_told(tmp_path, own):
    model, reference = own
    save(model, tmp_path / "saved")
    with (tmp_path / "own_net.py").open("a") as file:
        file.write("# another line\n")
    with pytest.warns(UserWarning, match="the code has changed since this network was saved"):
        load(tmp_path / "saved", [reference])


def test_code_that_builds_another_network_is_told(tmp_path, own):
    model, reference = own
    save(model, tmp_path / "saved")
    description = json.loads((tmp_path / "saved" / "architecture.json").read_text())
    for key in ("digest", "weights_sha256"):
        description.pop(key)
    missing = json.loads(json.dumps(description).replace('"act"', '"activation"'))
    with pytest.raises(ModelError, match=r"layer `activation` was PReLU and now is not there: the code .* has changed"):
        rebuild(missing, [reference])
    description["layers"]["act"]["type"] = "Linear"
    with pytest.raises(ModelError, match="layer `act` was Linear and now is PReLU"):
        rebuild(description, [reference])


def test_building_again_leaves_the_generator_alone(tmp_path):
    """Catches a resumed run that draws other numbers than one that was not interrupted."""
    model = residual()
    save(model, tmp_path)
    state = torch.get_rng_state()
    load(tmp_path)
    rebuild(describe(model))
    assert torch.equal(torch.get_rng_state(), state)


def test_the_same_network_gives_the_same_bytes_and_digest(tmp_path):
    for name in ("a", "b"):
        save(residual(), tmp_path / name)
    for file in ("weights.safetensors", "architecture.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert digest(residual()) == digest(load(tmp_path / "a"))
    assert len({digest(residual()), digest(residual(seed=1)), digest(residual(strides=(2, 2)))}) == 3


def test_tied_weights_are_saved(tmp_path):
    model = residual()
    model.module.stages[0][1].conv2.weight = model.module.stages[0][1].conv1.weight
    save(model, tmp_path)
    assert torch.equal(load(tmp_path).module(IMAGES), model.module(IMAGES))


def edit(folder, change):
    path = folder / "architecture.json"
    plain = json.loads(path.read_text())
    change(plain)
    path.write_text(json.dumps(plain))


def test_a_changed_description_is_noticed(tmp_path):
    """Strides leave no trace in names and shapes: the outputs would be wrong without a word."""
    save(residual(), tmp_path)
    edit(tmp_path, lambda plain: plain["builder"]["residual"].update(strides=[2, 2]))
    with pytest.raises(ModelError, match=r"architecture\.json: was changed after it was saved"):
        load(tmp_path)


@pytest.mark.parametrize("file", ["weights.safetensors", "architecture.json"])
@pytest.mark.parametrize("cut", [0, 4, 700, -1])
def test_a_truncated_file_is_named(tmp_path, file, cut):
    save(residual(), tmp_path)
    path = tmp_path / file
    path.write_bytes(path.read_bytes().rstrip()[:cut])
    with pytest.raises(ModelError, match=rf"{file}: is damaged or truncated"):
        load(tmp_path)


@pytest.mark.parametrize("file", ["weights.safetensors", "architecture.json"])
def test_a_missing_file_is_named(tmp_path, file):
    save(residual(), tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(ModelError, match=rf"{file}: cannot be read: No such file.*a checkpoint is a folder with"):
        load(tmp_path)


def test_a_flipped_weight_is_noticed(tmp_path):
    save(residual(), tmp_path)
    path = tmp_path / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"is not the file that was saved with architecture\.json"):
        load(tmp_path)


def test_weights_of_another_network_are_told(tmp_path):
    save(residual(), tmp_path)
    other = residual(widths=(16, 48))
    safetensors.torch.save_file(other.module.state_dict(), tmp_path / "weights.safetensors")
    with pytest.raises(ModelError, match=r"`stages\.1\..*` has shape \[48.*\] instead of \[32.*\].* and \d+ more"):
        load(tmp_path)
    tensors = residual().module.state_dict()
    tensors["more"] = tensors.pop("head.bias").clone()
    safetensors.torch.save_file(tensors, tmp_path / "weights.safetensors")
    with pytest.raises(ModelError, match=r"`head\.bias` is missing, `more` is not known"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 3}, "has format version 3, but this compresslab reads 1 and 2"),
        ({"builder": {"kind": "shell"}}, "does not say how the network is built"),
        ({"builder": None}, "does not say how the network is built"),
        ({"tensors": {"head.bias": ["x"]}}, "tensors.head.bias.0: Input should be a valid integer"),
        ({"extra": 1}, "extra: Extra inputs are not permitted"),
        (
            {"layers": {"head": {"type": "Linear", "sizes": {"__class__": 1}}}},
            "layer `head` was Linear and now is Linear",
        ),
    ],
)
def test_a_description_of_something_else_is_told(change, message):
    with pytest.raises(ModelError, match=message):
        rebuild({**describe(residual()), **change})


def test_the_description_is_plain_json():
    model = residual()
    assert json.loads(json.dumps(describe(model))) == describe(model)
    with pytest.raises(ModelError, match="a converted INT8 network is kept as ONNX alone"):
        describe(TorchModel(model.module, None))


def test_the_users_builder_carries_no_machine_path(own):
    _, reference = own
    builder = PythonBuilder.of(reference, {})
    assert builder.function == "own_net:build"
