"""Networks of timm, transformers and a user's own, cut by hand, saved, and rebuilt in a process that knows nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import safetensors.torch
import torch
from torch import nn

from compresslab.candidate import TorchModel
from compresslab.errors import ModelError
from compresslab.export import export
from compresslab.export.to_onnx import to_onnx
from compresslab.measure.preprocessing import ImagePreprocessing
from compresslab.models import ModelSpec, Residual, Signature
from compresslab.models.architecture import describe, load, rebuild, save
from compresslab.models.blocks import remove_blocks, without_blocks
from compresslab.models.builder import HfBuilder, construct, construct_again, read_builder
from compresslab.models.tying import tied_tensors
from tests.models.cutting import head_rows, keep_columns, keep_inputs, keep_norm, keep_outputs, settle

ROOT = Path(__file__).parents[2]
IMAGES = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
IDS = torch.randint(1, 50, (4, 9), generator=torch.Generator().manual_seed(1))
IDS[1, 5:] = 0  # padding, so that the mask matters
SIGNATURE = Signature("images", 3, 5)

pytestmark = pytest.mark.usefixtures("libraries")

LOAD = """
import sys
from pathlib import Path
import safetensors.torch, torch
from tests.torchvision_operators import define
define()
from compresslab.models.architecture import load
folder, trusted = Path(sys.argv[1]), sys.argv[2:]
module = load(folder / "saved", trusted).module
with torch.no_grad():
    outputs = module(safetensors.torch.load_file(folder / "inputs")["inputs"])
safetensors.torch.save_file({"outputs": outputs}, folder / "outputs")
"""


def in_a_fresh_process(model, inputs, folder, trusted=()):
    """What the network gives once another process has rebuilt it; warnings, such as of changed code, are errors."""
    save(model, folder / "saved")
    safetensors.torch.save_file({"inputs": inputs}, folder / "inputs")
    subprocess.run(
        [sys.executable, "-W", "error::UserWarning:compresslab", "-c", LOAD, str(folder), *trusted],
        check=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    return safetensors.torch.load_file(folder / "outputs")["outputs"]


# -- the networks, and how each is cut ---------------------------------------------------------------------------------


def timm_vit():
    return ModelSpec(
        timm="vit_tiny_patch16_224",
        arguments={"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 4, "num_heads": 4, "init_values": 0.5},
    ).build(SIGNATURE, 0)


def cut_timm_vit(model):
    net, width = model.module, torch.tensor([i for i in range(32) if i % 4])
    remove_blocks(net, ["blocks.1"])
    for index, block in enumerate(net.blocks):
        heads = [0, 2, 3] if index else [1, 2]
        rows, attention = head_rows(heads, 8), block.attn
        keep_outputs(attention.qkv, torch.cat([rows, rows + 32, rows + 64]))
        keep_inputs(attention.proj, rows)
        attention.num_heads, attention.attn_dim = len(heads), len(rows)
        keep_outputs(block.mlp.fc1, torch.arange(40))
        keep_inputs(block.mlp.fc2, torch.arange(40))
        for layer in (attention.qkv, block.mlp.fc1):
            keep_inputs(layer, width)
        for layer in (attention.proj, block.mlp.fc2):
            keep_outputs(layer, width)
        for norm in (block.norm1, block.norm2):
            keep_norm(norm, width)
        for scale in (block.ls1, block.ls2):
            keep_columns(scale, "gamma", width)
    keep_outputs(net.patch_embed.proj, width)
    for name in ("cls_token", "pos_embed"):
        keep_columns(net, name, width)
    keep_norm(net.norm, width)
    keep_inputs(net.head, width)
    net.num_features = net.head_hidden_size = net.embed_dim = len(width)
    return ["blocks.1"]


def timm_resnet():
    return ModelSpec(timm="resnet18", arguments={"channels": [8, 16, 16, 24]}).build(SIGNATURE, 0)


def cut_timm_resnet(model):
    net, kept = model.module, torch.tensor([0, 1, 4, 5, 6, 9])
    remove_blocks(net, ["layer2.1"])
    for block in (net.layer2[0], net.layer3[1]):
        keep_outputs(block.conv1, kept)
        keep_norm(block.bn1, kept)
        keep_inputs(block.conv2, kept)
    return ["layer2.1"]


def timm_mobilenet():
    return ModelSpec(timm="mobilenetv2_035").build(SIGNATURE, 0)


def cut_timm_mobilenet(model):
    """Depthwise, whose groups follow, and normalizations that are classes of timm's own."""
    net, kept = model.module, torch.arange(1, 40)
    block = net.blocks[2][1]
    keep_outputs(block.conv_pw, kept)
    keep_norm(block.bn1, kept)
    keep_outputs(block.conv_dw, kept)
    block.conv_dw.in_channels = block.conv_dw.groups = len(kept)
    keep_norm(block.bn2, kept)
    keep_inputs(block.conv_pwl, kept)
    remove_blocks(net, ["blocks.3.1"])
    return ["blocks.3.1"]


def hf_config(kind, **settings):
    import transformers

    small = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 48}
    return getattr(transformers, kind)(**{**small, "num_labels": 5, **settings})


def hf_vit(folder):
    from transformers import ViTForImageClassification

    torch.manual_seed(0)
    names = dict(enumerate(["ant", "bee", "cow", "dog", "eel"]))
    config = hf_config("ViTConfig", image_size=32, patch_size=8, id2label=names)
    ViTForImageClassification(config).save_pretrained(folder / "vit")
    return ModelSpec(hf=str(folder / "vit")).build(SIGNATURE, 0)


def cut_hf_layers(layers, width):
    for index, layer in enumerate(layers):
        heads = [0, 3] if index else [1, 2, 3]
        rows = head_rows(heads, 8)
        inner = layer.attention.attention if hasattr(layer.attention, "attention") else layer.attention.self
        for projection in (inner.query, inner.key, inner.value):
            keep_outputs(projection, rows)
            keep_inputs(projection, width)
        inner.num_attention_heads, inner.all_head_size = len(heads), len(rows)
        keep_inputs(layer.attention.output.dense, rows)
        keep_outputs(layer.intermediate.dense, torch.arange(20))
        keep_inputs(layer.intermediate.dense, width)
        keep_inputs(layer.output.dense, torch.arange(20))
        for dense in (layer.attention.output.dense, layer.output.dense):
            keep_outputs(dense, width)


def cut_hf_vit(model):
    net, width = model.module, torch.arange(24)
    remove_blocks(net, ["vit.encoder.layer.0", "vit.encoder.layer.2"])
    cut_hf_layers(net.vit.encoder.layer, width)
    for layer in net.vit.encoder.layer:
        keep_norm(layer.layernorm_before, width)
        keep_norm(layer.layernorm_after, width)
    embeddings = net.vit.embeddings
    for name in ("cls_token", "position_embeddings"):
        keep_columns(embeddings, name, width)
    keep_outputs(embeddings.patch_embeddings.projection, width)
    keep_norm(net.vit.layernorm, width)
    keep_inputs(net.classifier, width)
    return ["vit.encoder.layer.0", "vit.encoder.layer.2"]


def hf_bert(_folder=None):
    config = json.loads(
        hf_config("BertConfig", vocab_size=50, max_position_embeddings=16).to_json_string(use_diff=False)
    )
    builder = HfBuilder(task="text-classification", config=config, version=version("transformers"))
    return TorchModel(construct_again(builder, ()), builder.plain())


def cut_hf_bert(model):
    net, width = model.module, torch.tensor([i for i in range(32) if i % 8])
    remove_blocks(net, ["bert.encoder.layer.1"])
    cut_hf_layers(net.bert.encoder.layer, width)
    for layer in net.bert.encoder.layer:
        keep_norm(layer.attention.output.LayerNorm, width)
        keep_norm(layer.output.LayerNorm, width)
    embeddings = net.bert.embeddings
    for table in (embeddings.word_embeddings, embeddings.position_embeddings, embeddings.token_type_embeddings):
        keep_columns(table, "weight", width)
        table.embedding_dim = len(width)
    keep_norm(embeddings.LayerNorm, width)
    keep_inputs(net.bert.pooler.dense, width)
    keep_outputs(net.bert.pooler.dense, torch.arange(16))
    keep_inputs(net.classifier, torch.arange(16))
    return ["bert.encoder.layer.1"]


def version(library):
    from importlib.metadata import version

    return version(library)


def residual():
    return ModelSpec(residual=Residual(widths=(8, 16), blocks=(3, 2))).build(SIGNATURE, 0)


def cut_residual(model):
    net, kept = model.module, torch.tensor([0, 2, 3, 7])
    remove_blocks(net, ["stages.0.1"])
    keep_outputs(net.stages[0][1].conv1, kept)
    keep_norm(net.stages[0][1].bn1 if hasattr(net.stages[0][1], "bn1") else net.stages[0][1].norm1, kept)
    keep_inputs(net.stages[0][1].conv2, kept)
    return ["stages.0.1"]


OWN = """
import torch
from torch import nn

class Attention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads, self.dim_head, self.scale = heads, dim // heads, (dim // heads) ** -0.5
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x):
        b, n, _ = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, self.dim_head).permute(2, 0, 3, 1, 4)
        mixed = (q @ k.transpose(-2, -1) * self.scale).softmax(-1) @ v
        return x + self.out(mixed.transpose(1, 2).reshape(b, n, self.heads * self.dim_head))

class Net(nn.Module):
    def __init__(self, depth):
        super().__init__()
        self.patches = nn.Conv2d(3, 24, 8, 8)
        self.blocks = nn.ModuleList(Attention(24, 3) for _ in range(depth))
        self.mixer = nn.MultiheadAttention(24, 4, batch_first=True)
        self.head = nn.Linear(24, 5)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        return self.head(self.mixer(x, x, x, need_weights=False)[0].mean(1))

def build(depth=3):
    return Net(depth)
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "own_attention.py").write_text(OWN)
    reference = f"{tmp_path}/own_attention.py:build"
    yield ModelSpec(python=reference).build(SIGNATURE, 0), reference
    sys.modules.pop("own_attention", None)


def cut_own(model):
    """Also the width of a head, and the scale that one sets oneself because of it."""
    net = model.module
    remove_blocks(net, ["blocks.0"])
    for block in net.blocks:
        rows = torch.tensor([head * 8 + column for head in (0, 2) for column in range(5)])
        keep_outputs(block.qkv, torch.cat([rows, rows + 24, rows + 48]))
        keep_inputs(block.out, rows)
        block.heads, block.dim_head, block.scale = 2, 5, 5**-0.5
    return ["blocks.0"]


def cut(model, how):
    settle(model.module)
    inputs = IDS if model.builder.get("task") == "text-classification" else IMAGES
    with torch.no_grad():  # as the other process does: torch's own attention takes another path then
        before = model.module(inputs)
        after = TorchModel(model.module, without_blocks(model.builder, how(model)))
        outputs = after.module(inputs)
    assert outputs.shape == before.shape
    assert outputs.std() > 1e-3, "outputs that are all alike would agree whatever was loaded"
    assert not torch.equal(outputs, before)
    return after, inputs, outputs


NETWORKS = {
    "residual": (lambda _: residual(), cut_residual),
    "timm_vit": (lambda _: timm_vit(), cut_timm_vit),
    "timm_resnet": (lambda _: timm_resnet(), cut_timm_resnet),
    "timm_mobilenet": (lambda _: timm_mobilenet(), cut_timm_mobilenet),
    "hf_vit": (hf_vit, cut_hf_vit),
    "hf_bert": (hf_bert, cut_hf_bert),
}


def onnx_outputs(model, inputs, folder):
    """By `export`, whose parity check would raise; ids, for which there is no task yet, by what it is made of."""
    if inputs.dtype == torch.float32:
        artifact = export(
            model, folder, inputs=inputs.numpy(), labels=list("abcde"), provenance={},
            preprocessing=ImagePreprocessing(height=32, width=32, channels=3, mean=(0.0,) * 3, std=(1.0,) * 3),
        )  # fmt: skip
        session = onnxruntime.InferenceSession(artifact.graphs["model"])
    else:
        import onnx_ir as ir

        program = to_onnx(model.module, inputs[:2], "logits")
        session = onnxruntime.InferenceSession(ir.to_proto(program).SerializeToString())
    return session.run(None, {session.get_inputs()[0].name: inputs.numpy()})[0]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_cut_network_is_rebuilt(tmp_path, name):
    build, how = NETWORKS[name]
    model, inputs, outputs = cut(build(tmp_path), how)
    save(model, tmp_path / "here")
    again = load(tmp_path / "here")
    with torch.no_grad():
        assert torch.equal(again.module(inputs), outputs)
    assert describe(again) == describe(model)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_a_cut_network_is_rebuilt_in_another_process_and_exported(tmp_path, name):
    build, how = NETWORKS[name]
    model, inputs, outputs = cut(build(tmp_path), how)
    assert torch.equal(in_a_fresh_process(model, inputs, tmp_path), outputs)
    again = load(tmp_path / "saved")
    np.testing.assert_allclose(onnx_outputs(again, inputs, tmp_path / "onnx"), outputs.numpy(), atol=1e-4)


def test_a_network_of_the_users_own_is_rebuilt_in_another_process(tmp_path, own):
    model, reference = own
    model, inputs, outputs = cut(model, cut_own)
    assert torch.equal(in_a_fresh_process(model, inputs, tmp_path, [reference]), outputs)


def test_a_cut_network_is_cut_again(tmp_path):
    """The second time, blocks are numbered as they are by then."""
    model, inputs, _ = cut(timm_vit(), cut_timm_vit)
    save(model, tmp_path / "once")
    once = load(tmp_path / "once")
    remove_blocks(once.module, ["blocks.1"])
    twice = TorchModel(once.module, without_blocks(once.builder, ["blocks.1"]))
    assert twice.builder["removed"] == ["blocks.1", "blocks.2"]
    save(twice, tmp_path / "twice")
    assert torch.equal(load(tmp_path / "twice").module(inputs), twice.module(inputs))


def test_dropout_of_a_rebuilt_network_works_when_it_is_trained(tmp_path):
    model, inputs, outputs = cut(hf_bert(), cut_hf_bert)
    save(model, tmp_path)
    again = load(tmp_path).module.train()
    again(inputs).sum().backward()
    assert not torch.equal(again(inputs), outputs)
    assert torch.equal(again.eval()(inputs), outputs)
    assert all(p.grad is not None for p in again.parameters())


def test_padding_changes_nothing():
    """Ids of padding are left out of the attention; without the mask, what stands behind a text would change it."""
    module = settle(hf_bert().module)
    longer = torch.cat([IDS, torch.zeros(4, 3, dtype=torch.int64)], 1)
    torch.testing.assert_close(module(longer), module(IDS))


# -- weights under several names ---------------------------------------------------------------------------------------

TIED = """
from torch import nn

class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(12, 8, bias=False)
        self.decode = nn.Linear(12, 8, bias=False)
        self.decode.weight = self.embed.weight
        self.twice = nn.ModuleList([nn.Linear(8, 8)] * 2)

    def forward(self, x):
        for layer in self.twice:
            x = layer(x @ self.embed.weight.t()) @ self.decode.weight
        return x

def build():
    return Tied()
"""


@pytest.fixture
def tied(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "tied_net.py").write_text(TIED)
    reference = f"{tmp_path}/tied_net.py:build"
    yield ModelSpec(python=reference).build(SIGNATURE, 0), reference
    sys.modules.pop("tied_net", None)


def test_weights_that_are_one_stay_one_when_they_are_resized(tmp_path, tied):
    """Else training would move the two apart, and the file would not tell."""
    model, reference = tied
    net, kept = model.module, torch.arange(9)
    keep_inputs(net.embed, kept)
    net.decode.weight, net.decode.in_features = net.embed.weight, 9
    save(model, tmp_path / "saved")
    again = load(tmp_path / "saved", [reference]).module
    assert again.decode.weight is again.embed.weight
    assert again.twice[0] is again.twice[1]
    assert tied_tensors(again) == tied_tensors(net)
    x = torch.rand(2, 9)
    assert torch.equal(again(x), net(x))


def test_weights_that_became_two_stay_two(tmp_path, tied):
    """The constructor makes them one: loading the second would overwrite the first."""
    model, reference = tied
    model.module.decode.weight = nn.Parameter(model.module.decode.weight.detach() * 2)
    save(model, tmp_path / "saved")
    again = load(tmp_path / "saved", [reference]).module
    assert torch.equal(again.decode.weight, 2 * again.embed.weight)
    x = torch.rand(2, 12)
    assert torch.equal(again(x), model.module(x))


def test_a_module_that_was_used_twice_and_no_longer_is_told(tmp_path, tied):
    model, reference = tied
    model.module.twice[1] = nn.Linear(8, 8)
    save(model, tmp_path / "saved")
    with pytest.raises(
        ModelError, match=r"`twice\.0\.bias` and `twice\.1\.bias` belong to a module that the code uses twice"
    ):
        load(tmp_path / "saved", [reference])


def test_a_decoder_that_shares_its_embeddings_of_transformers(tmp_path):
    from transformers import BertForMaskedLM

    net = BertForMaskedLM(hf_config("BertConfig", vocab_size=50, max_position_embeddings=16))
    (group,) = [names for names in tied_tensors(net) if any("word_embeddings" in name for name in names)]
    assert group == ("bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight")


# -- what is in a file is not believed ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"forward": 3}, "`forward` of module `blocks.0.attn` is nothing that a checkpoint may set"),
        ({"__class__": 3}, "`__class__` of module `blocks.0.attn` is nothing that a checkpoint may set"),
        ({"num_head": 3}, "`num_head` of .*; did you mean `num_heads`"),
        ({"num_heads": -1}, r"attributes\.blocks\.0\.attn\.num_heads"),
        ({"num_heads": "3"}, r"attributes\.blocks\.0\.attn\.num_heads"),
        ({"num_heads": True}, r"attributes\.blocks\.0\.attn\.num_heads"),
        (
            {"num_heads": 1.5},
            r"module `blocks\.0\.attn` had `num_heads` = 1\.5 and now .*Attention\) keeps no such number",
        ),
        ({"dim_head": 3}, r"had `dim_head` = 3 and now \(Attention\) keeps no such number: the code .* has changed"),
    ],
)
def test_only_numbers_that_a_module_has_are_set(change, message):
    plain = json.loads(json.dumps(describe(timm_vit())))
    plain["attributes"]["blocks.0.attn"] = change
    with pytest.raises(ModelError, match=message):
        rebuild(plain)


def test_a_module_or_block_that_is_no_longer_there_is_told():
    plain = describe(timm_vit())
    with pytest.raises(ModelError, match=r"module `blocks\.9\.attn` had `num_heads` = 3 and now is not there"):
        rebuild({**plain, "attributes": {"blocks.9.attn": {"num_heads": 3}}})
    gone = {**plain["builder"], "removed": ["blocks.7"]}
    with pytest.raises(ModelError, match=r"blocks were removed .* `blocks` has no block `blocks\.7`.*has changed"):
        rebuild({**plain, "builder": gone})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arguments": {"checkpoint_path": "/tmp/x.pt"}}, "`checkpoint_path` cannot be an argument"),
        ({"arguments": {"pretrained": True}}, "`pretrained` cannot be an argument"),
        ({"name": "hf-hub:someone/net"}, "must be the name of one of its networks"),
        ({"name": "local-dir:/tmp/net"}, "must be the name of one of its networks"),
    ],
)
def test_a_file_cannot_make_timm_read_more(change, message):
    """timm fetches by such a name, and unpickles by such an argument."""
    plain = timm_vit().builder
    with pytest.raises(ModelError, match=message):
        read_builder({**plain, **change}, "x")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"auto_map": {"AutoModel": "x--y.Z"}}, "names code of its own, which is not run"),
        ({"inner": {"auto_map": {"AutoModel": "x--y.Z"}}}, "names code of its own"),
        ({"use_pretrained_backbone": True}, "would fetch the weights of its backbone"),
        ({"model_type": "timm_wrapper"}, "give its name by `timm`"),
        ({"model_type": None}, "has no `model_type`"),
    ],
)
def test_a_configuration_cannot_make_transformers_run_or_fetch_more(change, message):
    plain = hf_bert().builder
    with pytest.raises(ModelError, match=message):
        read_builder({**plain, "config": {**plain["config"], **change}}, "x")


def test_a_configuration_of_no_known_network_is_told():
    builder = read_builder({**hf_bert().builder, "config": {"model_type": "bertt"}}, "x")
    with pytest.raises(ModelError, match="knows no network of the type `bertt`; did you mean `bert`"):
        construct(builder, ())


def test_another_version_of_the_library_is_told():
    plain = {**timm_vit().builder, "version": "0.1"}
    with pytest.warns(UserWarning, match=r"was saved with timm 0\.1, and \S+ builds it now"):
        construct_again(read_builder(plain, "x"), ())
