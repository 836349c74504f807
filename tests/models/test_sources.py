"""`timm` and `hf` as a pipeline says them."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from pydantic import ValidationError

from compresslab.candidate import TorchModel
from compresslab.errors import ModelError
from compresslab.models import ModelSpec, Signature, libraries
from compresslab.models.architecture import save
from compresslab.models.check import require_fit, require_same_names
from compresslab.models.hf_net import label_names, open_hf
from tests.models.cutting import settle
from tests.texts import save_distilbert

ROOT = Path(__file__).parents[2]
SIGNATURE = Signature("images", 3, 3)
SMALL = {"channels": [8, 8, 8, 16]}
IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
NAMES = ("cat", "dog", "T-shirt/top")


@pytest.fixture
def saved(libraries, tmp_path):
    """A folder that `save_pretrained` wrote, and the network that is in it."""
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=16,
        id2label=dict(enumerate(NAMES)),
    )  # fmt: skip
    network = settle(ViTForImageClassification(config))
    network.save_pretrained(tmp_path / "vit")
    return tmp_path / "vit", network


def edit(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def build(folder, signature=SIGNATURE):
    return ModelSpec(hf=str(folder)).build(signature)


# -- timm --------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("libraries")
def test_a_timm_network_with_weights(tmp_path):
    spec = ModelSpec(timm="resnet18", arguments=SMALL)
    weights = settle(spec.build(SIGNATURE, 1).module).state_dict()
    safetensors.torch.save_file(weights, tmp_path / "best.safetensors")
    trained = ModelSpec.model_validate(
        {**spec.model_dump(), "weights": str(tmp_path / "best.safetensors"), "classes": 3}
    )
    model = trained.build(SIGNATURE)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.module.state_dict().items())
    assert (trained.has_weights, spec.has_weights) == (True, False)
    assert not model.module.training
    assert {**model.builder, "version": ""} == {
        "kind": "timm", "name": "resnet18", "classes": 3, "in_channels": 3, "arguments": SMALL, "version": "",
    }  # fmt: skip
    save(model, tmp_path / "checkpoint")
    again = ModelSpec(checkpoint=str(tmp_path / "checkpoint"))
    assert torch.equal(again.build(SIGNATURE).module(IMAGES), model.module(IMAGES))
    with pytest.raises(ModelError, match="the network is for 3 classes, but the task has 4"):
        again.build(Signature("images", 3, 4))
    with pytest.raises(
        ModelError, match=r"best\.safetensors does not fit the network: `fc\.weight` has shape \[3, 16\]"
    ):
        ModelSpec(timm="resnet18", arguments=SMALL, weights=trained.weights).build(Signature("images", 3, 5))


@pytest.mark.usefixtures("libraries")
def test_a_timm_network_reads_what_the_task_has():
    module = ModelSpec(timm="resnet18", arguments=SMALL).build(Signature("images", 1, 7)).module
    assert module(torch.rand(2, 1, 32, 32)).shape == (2, 7)


@pytest.mark.usefixtures("libraries")
def test_new_weights_are_drawn_from_the_seed():
    one, again, other = (
        ModelSpec(timm="resnet18", arguments=SMALL).build(SIGNATURE, seed).module.fc.weight for seed in (1, 1, 2)
    )
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


@pytest.mark.usefixtures("libraries")
@pytest.mark.parametrize(
    ("settings", "signature", "message"),
    [
        ({"timm": "resnet81"}, SIGNATURE, "has no network `resnet81`; did you mean `resnet"),
        ({"timm": "resnet18", "classes": 7}, SIGNATURE, "the network is for 7 classes, but the task has 3"),
        ({"timm": "resnet18"}, Signature("features", 3, 3), "`timm` reads images, but the task's samples are rows"),
        ({"timm": "resnet18", "arguments": {"wide": 3}}, SIGNATURE, "resnet18 cannot be built with `wide`: .*wide"),
        (
            {"timm": "vit_tiny_patch16_224", "arguments": {"embed_dim": 30, "num_heads": 4}},
            SIGNATURE,
            "cannot be built with `embed_dim`, `num_heads`: dim should be divisible by num_heads",
        ),
    ],
)
def test_what_timm_cannot_build_is_told(settings, signature, message):
    with pytest.raises(ModelError, match=message):
        ModelSpec(**settings).build(signature)


@pytest.mark.usefixtures("libraries")
def test_images_of_another_size_are_told():
    """timm asserts it, which is no error that torch raises."""
    model = ModelSpec(
        timm="vit_tiny_patch16_224", arguments={"img_size": 64, "depth": 1, "embed_dim": 12, "num_heads": 3}
    ).build(SIGNATURE)
    with pytest.raises(ModelError, match=r"fails on inputs of shape \[2, 3, 32, 32\]: .*32.*64"):
        require_fit(model, IMAGES.numpy(), 3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"timm": "hf-hub:a/b"}, "must be the name of one of its networks, such as `resnet50`, but got `hf-hub:a/b`"),
        ({"timm": "resnet18", "arguments": {"checkpoint_path": "x"}}, "`checkpoint_path` cannot be an argument"),
        ({"timm": "resnet18", "arguments": {"num_classes": 3}}, "`num_classes` comes from the task"),
        ({"timm": "resnet18", "hf": "x"}, "but got `timm` and `hf`"),
        ({"timm": "resnet18", "checkpoint": "x", "python": "a:b"}, "but got `timm` and `checkpoint`"),
        ({"hf": "x", "classes": 3}, "`classes` are those of a `timm` network"),
        ({"hf": "x", "weights": "y"}, "`hf` has weights of its own; leave out `weights`"),
        ({"hf": "x", "arguments": {"a": 1}}, "`arguments` are those of a `timm` network"),
    ],
)
def test_what_cannot_be_meant_is_told_before_anything_is_loaded(given, message):
    with pytest.raises(ValidationError, match=message):
        ModelSpec(**given)


# -- transformers ------------------------------------------------------------------------------------------------------


def test_a_network_of_transformers(saved, tmp_path):
    folder, network = saved
    model = build(folder)
    assert torch.equal(model.module(IMAGES), network(IMAGES).logits)
    assert list(model.module.state_dict()) == list(network.state_dict()), "layers keep their names"
    assert ModelSpec(hf=str(folder)).has_weights
    assert str(tmp_path) not in json.dumps(model.builder), "it is rebuilt wherever the folder is"
    require_fit(model, IMAGES.numpy(), 3)
    save(model, tmp_path / "checkpoint")
    again = ModelSpec(checkpoint=str(tmp_path / "checkpoint")).build(SIGNATURE)
    assert torch.equal(again.module(IMAGES), model.module(IMAGES))
    assert again.builder == model.builder


def test_half_precision_is_widened(saved):
    folder, network = saved
    network.half().save_pretrained(folder)
    assert {tensor.dtype for tensor in build(folder).module.parameters()} == {torch.float32}


def test_a_network_that_reads_ids_for_a_task_that_is_to_come(libraries, tmp_path):
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=30, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, num_labels=4
    )
    network = settle(BertForSequenceClassification(config))
    network.save_pretrained(tmp_path)
    ids = torch.tensor([[3, 4, 5, 0], [6, 7, 8, 9]])
    module, _ = open_hf(str(tmp_path), "text-classification")
    assert torch.equal(module.eval()(ids), network(ids, attention_mask=(ids != 0).long()).logits)


def test_folders_are_found_beside_the_pipeline_and_names_are_left_alone(tmp_path):
    (tmp_path / "vit").mkdir()
    context = {"base": str(tmp_path)}
    told = [ModelSpec.model_validate({"hf": name}, context=context).hf for name in ("vit", "./gone", "google/vit")]
    assert told == [str(tmp_path / "vit"), str(tmp_path / "gone"), "google/vit"]


@pytest.mark.parametrize(
    ("signature", "message"),
    [
        (Signature("images", 3, 4), "the network is for 3 classes, but the task has 4"),
        (Signature("images", 1, 3), "the network is for 3 channels, but the task has 1"),
        (Signature("features", 3, 3), "`hf` reads images, but the task's samples are rows of features"),
    ],
)
def test_a_network_for_another_task_is_told(saved, signature, message):
    with pytest.raises(ModelError, match=message):
        build(saved[0], signature)


def test_pickled_weights_are_not_read(saved):
    folder, network = saved
    (folder / "model.safetensors").unlink()
    torch.save(network.state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"cannot be read: .*model\.safetensors, as no other format is read"):
        build(folder)


def test_code_that_a_folder_brings_is_not_run(saved):
    folder, _ = saved
    (folder / "bomb.py").write_text("raise SystemExit('the bomb went off')")
    edit(folder, auto_map={"AutoConfig": "bomb.Config", "AutoModelForImageClassification": "bomb.Net"})
    with pytest.raises(ModelError, match="names code of its own, which is not run"):
        build(folder)


def test_a_network_without_a_head_is_told(saved):
    """transformers would draw new weights for it, and only log it."""
    folder, network = saved
    network.vit.save_pretrained(folder)
    with pytest.raises(
        ModelError, match=r"has no weights for `classifier\.bias`, `classifier\.weight`.*train it for image"
    ):
        build(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 24}, "its weights do not fit its configuration"),
        ({"model_type": "vitt"}, "knows no network of the type `vitt`; did you mean `vit`"),
        ({"model_type": "bert"}, "no network of the type `bert` for image classification"),
        ({"quantization_config": {"bits": 4}}, "is of a quantized network"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_told(saved, changes, message):
    edit(saved[0], **changes)
    with pytest.raises(ModelError, match=message):
        build(saved[0])


def test_broken_files_are_told(saved):
    folder, _ = saved
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match="vit: its weights are damaged or truncated"):
        build(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"vit: cannot be read: .*config\.json"):
        build(folder)
    with pytest.raises(ModelError, match=r"gone: there is no such folder; give one that `save_pretrained` wrote"):
        build(folder / "gone")


def test_labels_are_held_against_those_of_the_task(saved):
    model = build(saved[0])
    require_same_names(model, NAMES)
    require_same_names(model, ("Cat", "dog", "t_shirt top"))
    require_same_names(model, ("0", "1", "2"))
    require_same_names(model, ())
    with pytest.raises(
        ModelError, match="the same in another order, in which output 0 is `cat`, but the task has `dog`"
    ):
        require_same_names(model, ("dog", "cat", "T-shirt/top"))
    with pytest.raises(ModelError, match=r"`id2label` of its configuration.* it has `cat` and it lacks `cow`"):
        require_same_names(model, ("cow", "dog", "T-shirt/top"))
    require_same_names(TorchModel(model.module, {"kind": "mlp"}), ("cow", "dog", "eel"))


def test_placeholders_are_no_names():
    assert label_names({"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}) is None
    assert label_names({"id2label": {"1": "b", "0": "a"}}) == ("a", "b")
    assert label_names({}) is None


HUB = """
from tests.torchvision_operators import define
define()
from compresslab.models import ModelSpec, Signature
ModelSpec(hf="someone/no-such-network").build(Signature("images", 3, 3))
"""


def test_a_name_on_the_hub_without_a_network(libraries, tmp_path):
    import os

    ended = subprocess.run(
        [sys.executable, "-c", HUB], cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)},
    )  # fmt: skip
    last = ended.stderr.strip().splitlines()[-1]
    assert last.startswith(
        "compresslab.errors.ModelError: someone/no-such-network: there is no such folder, and it cannot"
    )
    assert "`hf download someone/no-such-network --local-dir FOLDER`" in last


# -- libraries that are not there --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "extra"), [("timm", "timm"), ("transformers", "hf")])
def test_a_library_that_is_missing_is_told(monkeypatch, name, extra):
    monkeypatch.setattr(libraries, "find_spec", lambda _: None)
    spec = ModelSpec(timm="resnet18") if name == "timm" else ModelSpec(hf="a/b")
    with pytest.raises(ModelError, match=rf"{name} is not installed; `pip install compresslab\[{extra}\]` brings it"):
        spec.build(SIGNATURE)


def test_a_library_that_cannot_be_imported_is_told(monkeypatch):
    def fail(name):
        raise ImportError("timm failed") from RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(libraries, "find_spec", lambda _: True)
    monkeypatch.setattr(libraries, "import_module", fail)
    with pytest.raises(ModelError, match="torchvision::nms does not exist; torchvision is not the build that belongs"):
        ModelSpec(timm="resnet18").build(SIGNATURE)


BESIDE_A_BROKEN_TORCHVISION = """
import sys
from compresslab.models.hf_net import open_hf
module, _ = open_hf(sys.argv[1], "text-classification")
import torch
print(list(module(torch.ones(2, 4, dtype=torch.int64)).shape), "torchvision" in sys.modules)
"""


def test_a_torchvision_of_another_torch_keeps_no_text_network_away_and_opening_one_says_nothing(tmp_path):
    """One cannot be used, and networks for texts need none. What libraries log of it is no news to anybody."""
    folder = save_distilbert(tmp_path / "model")
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    weights["left_over"] = torch.ones(2)  # transformers would warn at length
    safetensors.torch.save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(
        "raise RuntimeError('operator torchvision::nms does not exist')"
    )
    done = subprocess.run(
        [sys.executable, "-c", BESIDE_A_BROKEN_TORCHVISION, str(folder)],
        capture_output=True, text=True, cwd=ROOT, env={"PYTHONPATH": f"{tmp_path}:{ROOT}"},
    )  # fmt: skip
    assert (done.stdout, done.stderr, done.returncode) == ("[2, 3] False\n", "", 0)


def test_what_libraries_log_is_back_afterwards():
    before = logging.getLogger("torchao").level
    with libraries.quiet():
        assert not logging.getLogger("torchao.anything").isEnabledFor(logging.WARNING)
        assert logging.getLogger("torchao.anything").isEnabledFor(logging.ERROR)
        assert logging.getLogger("compresslab").isEnabledFor(logging.WARNING)
    assert logging.getLogger("torchao").level == before


def test_nothing_of_them_is_imported_unless_asked_for():
    code = """
import sys
import compresslab.models, compresslab.models.spec
assert "torch" not in sys.modules, "a pipeline is checked without torch"
import compresslab.models.builder, compresslab.models.architecture, compresslab.models.check
from compresslab.models import ModelSpec, Residual, Signature
ModelSpec(residual=Residual(widths=(8,))).build(Signature("images", 1, 3))
assert not {"timm", "transformers", "torchvision"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT)})
