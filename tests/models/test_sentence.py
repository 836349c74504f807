"""Sentence encoders: against transformers' own outputs, from disk, and built again elsewhere."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from compresslab.candidate import TorchModel
from compresslab.errors import ModelError
from compresslab.models.architecture import load, save
from compresslab.models.builder import SentenceBuilder
from compresslab.models.hf_net import transformers_version
from compresslab.models.sentence_source import open_encoder, open_sentence_transformers
from tests.models.encoders import FAMILIES, PAD, ids, save_sentence_transformers, tiny

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.usefixtures("libraries")


def reference(network, family, tokens, pooling):
    """What sentence-transformers computes: hidden states by an attention mask from outside, and the pooling."""
    mask = (tokens != PAD[family]).long()
    with torch.no_grad():
        states = network(input_ids=tokens, attention_mask=mask).last_hidden_state
    if pooling == "cls":
        return states[:, 0]
    rows = [state[: int(length)] for state, length in zip(states, mask.sum(1), strict=True)]
    return torch.stack([row.mean(0) if pooling == "mean" else row.amax(0) for row in rows])


@pytest.mark.parametrize("family", FAMILIES)
def test_it_computes_what_transformers_does_with_a_mask(tmp_path, family):
    """Each text alone, unpadded, must give the same: a forgotten mask, or RoBERTa's positions, would show."""
    network = tiny(family)
    network.save_pretrained(tmp_path)
    tokens = ids(family, longest=11)
    for pooling in ("mean", "cls", "max"):
        encoder = open_encoder(str(tmp_path), pooling, normalize=False).module
        with torch.no_grad():
            found = encoder(tokens)
            torch.testing.assert_close(found, reference(network, family, tokens, pooling))
            for row, length in enumerate((7, 3, 5)):
                torch.testing.assert_close(encoder(tokens[row : row + 1, :length])[0], found[row], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("pooling", "dense", "normalize"), [("mean", 0, True), ("cls", 12, True), ("max", 12, False)])
def test_a_directory_of_sentence_transformers(tmp_path, pooling, dense, normalize):
    network, tensors = save_sentence_transformers(tmp_path, "bert", pooling, dense, normalize)
    opened = open_sentence_transformers(str(tmp_path))
    tokens = ids("bert")
    expected = reference(network, "bert", tokens, pooling)
    if dense:
        expected = torch.tanh(functional.linear(expected, tensors["linear.weight"], tensors["linear.bias"]))
    if normalize:
        expected = functional.normalize(expected, dim=-1)
    with torch.no_grad():
        torch.testing.assert_close(opened.module(tokens), expected)
    assert (opened.max_length, opened.tokenizer) == (16, tmp_path / "tokenizer.json")
    assert not opened.module.training


def test_positions_of_roberta_start_behind_the_padding(tmp_path):
    tiny("roberta").save_pretrained(tmp_path / "roberta")
    tiny("bert").save_pretrained(tmp_path / "bert")
    lengths = [open_encoder(str(tmp_path / name)).max_length for name in ("roberta", "bert")]
    assert lengths == [38, 40]


def test_it_is_built_again_in_a_fresh_process_to_the_bit(tmp_path):
    save_sentence_transformers(tmp_path / "source", "bert", "mean", 12, True)
    opened = open_sentence_transformers(str(tmp_path / "source"))
    builder = SentenceBuilder(
        config=opened.config, pooling="mean", dense=opened.dense, normalize=True, version=transformers_version()
    )
    save(TorchModel(opened.module, builder.plain()), tmp_path / "kept")
    tokens = ids("bert")
    with torch.no_grad():
        expected = opened.module(tokens)
        assert torch.equal(load(tmp_path / "kept").module(tokens), expected)
    code = (
        "from tests.torchvision_operators import define; define()\n"
        "import sys, torch; from pathlib import Path; from compresslab.models.architecture import load\n"
        "with torch.no_grad(): print(load(Path(sys.argv[1])).module(torch.tensor(eval(sys.argv[2]))).double().tolist())"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "kept"), str(tokens.tolist())],
        cwd=ROOT, check=True, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert torch.equal(torch.tensor(json.loads(told.stdout), dtype=torch.float64).float(), expected)


def rewrite(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def module_type(folder, index, named):
    path = folder / "modules.json"
    listed = json.loads(path.read_text())
    listed[index]["type"] = named
    path.write_text(json.dumps(listed))


@pytest.mark.parametrize(("damage", "told"), [
    (lambda it: module_type(it, 1, "sentence_transformers.models.WeightedLayerPooling"),
     "WeightedLayerPooling` is no module"),
    (lambda it: module_type(it, 0, "evil.code.Transformer"), "`evil.code.Transformer` is no module"),
    (lambda it: module_type(it, 1, "sentence_transformers.models.Dense"),
     "it must have a `Transformer`, then a `Pooling`"),
    (lambda it: rewrite(it / "1_Pooling" / "config.json", pooling_mode_mean_tokens=False, pooling_mode_lasttoken=True),
     "pools by `pooling_mode_lasttoken`"),
    (lambda it: rewrite(it / "1_Pooling" / "config.json", pooling_mode_cls_token=True), "one of .* alone is known"),
    (lambda it: rewrite(it / "2_Dense" / "config.json", activation_function="os.system"),
     "`os.system` is no activation"),
    (lambda it: rewrite(it / "2_Dense" / "config.json", out_features=5), "does not fit its config.json"),
    (lambda it: (it / "2_Dense" / "model.safetensors").rename(it / "2_Dense" / "pytorch_model.bin"),
     "weights are read from safetensors alone"),
    (lambda it: (it / "model.safetensors").rename(it / "pytorch_model.bin"), "no other format is read"),
    (lambda it: (it / "modules.json").unlink(), "modules.json: there is no such file"),
    (lambda it: (it / "modules.json").write_text("[{"), "modules.json: is damaged"),
    (lambda it: rewrite(it / "sentence_bert_config.json", do_lower_case=True) or (it / "tokenizer.json").unlink(),
     "put in lower case"),
    (lambda it: (it / "config_sentence_transformers.json").write_text('{"default_prompt_name": "query"}'),
     "puts its prompt `query` before every text"),
    (lambda it: rewrite(it / "config.json", pad_token_id=3), "pads with id 0, but config.json says 3"),
    (lambda it: rewrite(it / "config.json", auto_map={"AutoModel": "evil.Model"}), "names code of its own"),
])  # fmt: skip
def test_what_it_refuses(tmp_path, damage, told):
    folder = tmp_path / "source"
    save_sentence_transformers(folder, "bert", "mean", 12, True)
    damage(folder)
    with pytest.raises(ModelError, match=told):
        open_sentence_transformers(str(folder))


def test_a_module_outside_the_directory_is_not_read(tmp_path):
    save_sentence_transformers(tmp_path / "source")
    path = tmp_path / "source" / "modules.json"
    path.write_text(path.read_text().replace("1_Pooling", "../elsewhere"))
    with pytest.raises(ModelError, match="lies outside the directory"):
        open_sentence_transformers(str(tmp_path / "source"))


def test_a_folder_that_is_not_there():
    with pytest.raises(ModelError, match="there is no such folder; give one that sentence-transformers wrote"):
        open_sentence_transformers("./nowhere")
