import pickle
import sys

import numpy as np
import pytest
import safetensors.torch
import torch
from pydantic import ValidationError

from compresslab.candidate import TorchModel
from compresslab.errors import BadInput, ModelError
from compresslab.models import ModelSpec, Residual, Signature
from compresslab.models.architecture import save
from compresslab.models.check import require_fit

NET = Residual(widths=(8, 16))
IMAGES = torch.randn(2, 1, 12, 12, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def weights():
    torch.manual_seed(5)
    return NET.build(3, 1).state_dict()


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "spec_net.py").write_text(
        "from torch import nn\n"
        "def build(outputs=3):\n    return nn.Sequential(nn.Flatten(), nn.Linear(144, outputs))\n"
        "def text():\n    return 'net'\n"
    )
    yield f"{tmp_path}/spec_net.py"
    sys.modules.pop("spec_net", None)


def write_pt(path, content):
    torch.save(content, path)
    return str(path)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda w: w,
        lambda w: {"state_dict": w, "epoch": 3},
        lambda w: {"model_state_dict": w},
        lambda w: {"model": {f"module.{name}": tensor for name, tensor in w.items()}},
    ],
)
def test_state_dicts_of_every_usual_form(tmp_path, weights, wrap):
    path = write_pt(tmp_path / "best.pt", wrap(weights))
    module = ModelSpec(residual=NET, weights=path).build(Signature("images", 1, 3)).module
    assert all(torch.equal(tensor, weights[name]) for name, tensor in module.state_dict().items())
    assert not module.training


def test_safetensors_weights(tmp_path, weights):
    safetensors.torch.save_file(weights, tmp_path / "best.safetensors")
    module = ModelSpec(residual=NET, weights=str(tmp_path / "best.safetensors")).build(Signature("images", 1, 3)).module
    assert torch.equal(module.head.weight, weights["head.weight"])


def test_a_pickled_network_is_not_run(tmp_path):
    path = write_pt(tmp_path / "whole.pt", NET.build(3, 1))
    with pytest.raises(
        ModelError, match=r"whole\.pt: holds more than tensors.*torch\.save\(network\.state_dict\(\), path\)"
    ):
        ModelSpec(residual=NET, weights=path).build(Signature("images", 1, 3))


class Bomb:
    def __reduce__(self):
        return (open, ("/tmp/compresslab-must-not-exist", "w"))


def test_a_pickle_bomb_does_not_go_off(tmp_path):
    import pathlib

    for content in (pickle.dumps(Bomb(), protocol=2), None):
        path = tmp_path / "bomb.pt"
        if content is None:
            torch.save({"state_dict": Bomb()}, path)
        else:
            path.write_bytes(content)
        with pytest.raises(ModelError, match=r"bomb\.pt: (holds more than tensors|is damaged)"):
            ModelSpec(residual=NET, weights=str(path)).build(Signature("images", 1, 3))
    assert not pathlib.Path("/tmp/compresslab-must-not-exist").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"epoch": 3, "lr": 0.1}, "must hold a state dict, name -> tensor, but holds a dict with 'epoch', 'lr'"),
        ([torch.zeros(1)], "but holds a list"),
        ({"head.weight": torch.zeros(3, 16)}, r"`stem\.0\.weight` is missing, .* and \d+ more"),
    ],
)
def test_other_contents_are_told(tmp_path, content, message):
    with pytest.raises(ModelError, match=message):
        ModelSpec(residual=NET, weights=write_pt(tmp_path / "x.pt", content)).build(Signature("images", 1, 3))


@pytest.mark.parametrize("name", ["best.pt", "best.safetensors"])
@pytest.mark.parametrize("cut", [0, 100, -200])
def test_a_truncated_file_is_named(tmp_path, weights, name, cut):
    path = tmp_path / name
    if name.endswith(".pt"):
        torch.save(weights, path)
    else:
        safetensors.torch.save_file(weights, path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ModelError, match=rf"{name}: is damaged"):
        ModelSpec(residual=NET, weights=str(path)).build(Signature("images", 1, 3))


def test_weights_for_other_classes_are_told(tmp_path, weights):
    path = write_pt(tmp_path / "best.pt", weights)
    with pytest.raises(
        ModelError, match=r"best\.pt does not fit the network: `head\.weight` has shape \[3, 16\] instead of \[10, 16\]"
    ):
        ModelSpec(residual=NET, weights=path).build(Signature("images", 1, 10))


def test_weights_that_are_not_finite_are_told(tmp_path, weights):
    weights["head.bias"][1] = float("nan")
    with pytest.raises(ModelError, match=r"`head\.bias` holds NaN or infinity"):
        ModelSpec(residual=NET, weights=write_pt(tmp_path / "best.pt", weights)).build(Signature("images", 1, 3))


def test_missing_weights_are_told(tmp_path):
    with pytest.raises(ModelError, match=r"gone\.pt: there is no such file"):
        ModelSpec(residual=NET, weights=str(tmp_path / "gone.pt")).build(Signature("images", 1, 3))


def test_a_checkpoint_must_be_for_the_task(tmp_path):
    model = ModelSpec(residual=NET).build(Signature("images", 1, 3))
    save(model, tmp_path)
    spec = ModelSpec(checkpoint=str(tmp_path))
    assert torch.equal(spec.build(Signature("images", 1, 3)).module(IMAGES), model.module(IMAGES))
    with pytest.raises(ModelError, match="the network is for 3 classes, but the task has 10"):
        spec.build(Signature("images", 1, 10))
    with pytest.raises(ModelError, match="the network is for 1 channels, but the task has 3"):
        spec.build(Signature("images", 3, 3))


def test_a_network_of_the_users_own(tmp_path, own):
    spec = ModelSpec(python=f"{own}:build", arguments={"outputs": 4})
    model = spec.build(Signature("images", 1, 4))
    assert model.module(IMAGES).shape == (2, 4)
    assert model.builder == {
        "kind": "python", "function": "spec_net:build", "arguments": {"outputs": 4}, "source": model.builder["source"],
    }  # fmt: skip
    save(model, tmp_path / "saved")
    with pytest.raises(ModelError, match="code that only a file names is not run"):
        ModelSpec(checkpoint=str(tmp_path / "saved")).build(Signature("images", 1, 4))
    again = ModelSpec(checkpoint=str(tmp_path / "saved"), python=f"{own}:build").build(Signature("images", 1, 4))
    assert torch.equal(again.module(IMAGES), model.module(IMAGES))


def test_what_is_wrong_with_the_users_function_is_told(own):
    with pytest.raises(BadInput, match="cannot be called with `classes`"):
        ModelSpec(python=f"{own}:build", arguments={"classes": 4}).build(Signature("images", 1, 4))
    with pytest.raises(ModelError, match=r"must return a torch\.nn\.Module, but returned a str"):
        ModelSpec(python=f"{own}:text").build(Signature("images", 1, 4))


def test_has_weights(tmp_path):
    assert not ModelSpec(residual=NET).has_weights
    assert ModelSpec(residual=NET, weights="x.pt").has_weights
    assert ModelSpec(checkpoint="x").has_weights
    assert ModelSpec(python="a:b").has_weights
    assert ModelSpec(python="a:b").trusted == ("a:b",)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {},
            "exactly one of `residual`, `mlp`, `timm`, `hf`, `sentence_transformers`, `checkpoint`, `python` must be "
            "given, but got none",
        ),
        ({"residual": NET, "checkpoint": "x"}, "but got `residual` and `checkpoint`"),
        ({"residual": NET, "checkpoint": "x", "python": "a:b"}, "but got `residual` and `checkpoint`"),
        ({"residual": NET, "python": "a:b"}, "but got `residual` and `python`"),
        ({"checkpoint": "x", "weights": "y"}, "`checkpoint` has weights of its own; leave out `weights`"),
        (
            {"residual": NET, "arguments": {"a": 1}},
            "`arguments` are those of a `timm` network, or of a `python` function",
        ),
        ({"python": "a:b", "arguments": {"a": object()}}, "not a valid JSON value"),
    ],
)
def test_exactly_one_source(given, message):
    with pytest.raises(ValidationError, match=message):
        ModelSpec(**given)


def test_settings_survive_a_round_trip(tmp_path):
    plain = {"residual": {"widths": [8, 16], "blocks": [1, 2]}, "weights": "best.pt"}
    spec = ModelSpec.model_validate(plain, context={"base": str(tmp_path)})
    assert spec.weights == str(tmp_path / "best.pt")
    assert ModelSpec.model_validate(spec.model_dump(mode="json")) == spec


def test_a_network_is_tried_on_the_task(own):
    images = IMAGES.numpy()
    fits = ModelSpec(python=f"{own}:build").build(Signature("images", 1, 3))
    require_fit(fits, images, 3)
    with pytest.raises(ModelError, match=r"Sequential returns shape \[2, 3\] for 2 inputs, but the task has 5 labels"):
        require_fit(fits, images, 5)
    with pytest.raises(ModelError, match=r"Sequential fails on inputs of shape \[2, 1, 4, 4\]: mat1 and mat2"):
        require_fit(fits, np.zeros((2, 1, 4, 4), np.float32), 3)
    with pytest.raises(ModelError, match="returns NaN or infinity on the task's own inputs"):
        require_fit(fits, np.full((2, 1, 12, 12), np.nan, np.float32), 3)
    with pytest.raises(ModelError, match="returns a tuple; it must return one tensor"):
        require_fit(TorchModel(Pair(), {}), images, 3)


class Pair(torch.nn.Module):
    def forward(self, images):
        return images, images
