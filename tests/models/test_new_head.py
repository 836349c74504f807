"""A network of transformers' that keeps its body and gets a head for the task at hand."""

import pytest
import torch
from pydantic import ValidationError

from compresslab.errors import ModelError
from compresslab.models import ModelSpec
from compresslab.models.hf_net import open_hf

pytestmark = pytest.mark.usefixtures("libraries")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny BERT that `save_pretrained` wrote without a head, and the same with a head of five outputs."""
    from transformers import BertConfig, BertForSequenceClassification, BertModel

    place = tmp_path_factory.mktemp("bert")
    config = BertConfig(
        vocab_size=40, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, num_labels=5
    )
    torch.manual_seed(0)
    BertModel(config).save_pretrained(place / "body")
    BertForSequenceClassification(config).save_pretrained(place / "headed")
    return place


@pytest.mark.parametrize("kind", ["body", "headed"])
def test_the_body_is_the_folders_and_the_head_fits_the_task(folder, kind) -> None:
    import safetensors.torch

    torch.manual_seed(1)
    module, config = open_hf(str(folder / kind), "text-classification", 1)
    ids = torch.randint(1, 40, (2, 5))
    assert module.eval()(ids).shape == (2, 1)
    stored = safetensors.torch.load_file(folder / kind / "model.safetensors")
    prefix = "" if kind == "body" else "bert."
    name = "encoder.layer.0.output.dense.weight"
    assert torch.equal(module.get_parameter(f"bert.{name}"), stored[f"{prefix}{name}"])
    assert config["id2label"] == {"0": "LABEL_0"}


def test_without_a_new_head_one_must_be_there(folder) -> None:
    with pytest.raises(ModelError, match=r"no weights for `classifier\.bias`, `classifier\.weight`"):
        open_hf(str(folder / "body"), "text-classification")


def test_a_new_head_counts_as_untrained() -> None:
    """So that the rules of order demand `train` before anything is learned from it."""
    assert not ModelSpec(hf="x", head="new").has_weights
    assert ModelSpec(hf="x").has_weights


def test_only_networks_of_transformers_have_heads_to_replace() -> None:
    with pytest.raises(ValidationError, match="`head` is that of an `hf` network"):
        ModelSpec(checkpoint="x", head="new")
