"""Students made of tiny teachers: near them before any training, and as good a network as any other."""

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional

from compresslab.candidate import TorchModel
from compresslab.errors import ModelError
from compresslab.export.to_onnx import to_onnx
from compresslab.models.architecture import digest, load, save
from compresslab.models.builder import HfBuilder, SentenceBuilder, TimmBuilder, construct
from compresslab.models.hf_net import build_hf, transformers_version
from compresslab.models.sentence_source import open_encoder
from compresslab.models.timm_net import timm_version
from compresslab.pruning import cut, find_groups
from compresslab.students import Corpus, Examples, FromTeacher, Static, Trim, derive, derive_static, unspelt
from tests.models.cutting import settle
from tests.models.encoders import FAMILIES, PAD, ids, tiny, wordpiece

pytestmark = pytest.mark.usefixtures("libraries")

TEXTS = [
    "the cat sat on the mat", "the cats run", "a dog sat on a cat", "running dogs", "mats on mats", "the dog ran",
    "on", "sat sat cat", "a cat runs on the mat and the dog sits", "abcdefg hijk",
] * 4  # fmt: skip
ALL = {"layers": [0, 2], "width": 24, "ffn": 48, "vocabulary": "trim", "embedding_rank": 16}


def natural(network):
    """Weights as training leaves them: a LayerNorm near one, and hidden states of which few directions hold most."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, tensor in network.named_parameters():
            if "LayerNorm" in name or "layer_norm" in name:
                tensor.copy_(
                    (1.0 if name.endswith("weight") else 0.0) + 0.1 * torch.randn(tensor.shape, generator=generator)
                )
            elif "embeddings.weight" in name:
                directions = torch.randn(6, tensor.shape[1], generator=generator)
                tensor.copy_(torch.randn(len(tensor), 6, generator=generator) @ directions
                             + 0.3 * torch.randn(tensor.shape, generator=generator))  # fmt: skip
            else:
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * (0.08 if tensor.dim() > 1 else 0.02))
    return network


def teacher(folder, family, normalize=True):
    natural(tiny(family)).save_pretrained(folder)
    opened = open_encoder(str(folder), normalize=normalize)
    builder = SentenceBuilder(
        config=opened.config, pooling="mean", dense=(), normalize=normalize, version=transformers_version()
    )
    return TorchModel(opened.module, builder.plain())


def corpus(family="bert", texts=TEXTS):
    """Padding has another id in RoBERTa's kind: the tokenizer's first two tokens change places."""
    text = wordpiece()
    if PAD[family] == 1:
        text = (
            text.replace('"[PAD]": 0', '"[PAD]": -1')
            .replace('"[UNK]": 1', '"[UNK]": 0')
            .replace('"[PAD]": -1', '"[PAD]": 1')
        )
        text = text.replace('"id": 0, "content": "[PAD]"', '"id": -1, "content": "[PAD]"')
        text = text.replace('"id": 1, "content": "[UNK]"', '"id": 0, "content": "[UNK]"')
        text = text.replace('"id": -1, "content": "[PAD]"', '"id": 1, "content": "[PAD]"').replace(
            '"pad_id": 0', '"pad_id": 1'
        )
    return Corpus([texts], text, PAD[family], 16)


def outputs(model, batches):
    with torch.no_grad():
        return torch.cat([model.module(batch) for batch in batches])


def cosine(left, right):
    return float(functional.cosine_similarity(left, right).mean())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_student_of_which_nothing_is_cut_is_the_teacher(tmp_path, family):
    whole, seen = teacher(tmp_path, family), corpus(family)
    settings = FromTeacher(layers=(0, 1, 2), ffn=64, vocabulary=Trim(min_count=1), embedding_rank=32)
    made = derive(whole, settings, seen)
    assert made.corpus is not None
    before, after = seen.examples().batches, made.corpus.examples().batches
    torch.testing.assert_close(outputs(made.model, after), outputs(whole, before), atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("one", ["layers", "width", "ffn", "vocabulary", "embedding_rank"])
def test_each_cut_alone_stays_far_nearer_than_new_weights(tmp_path, family, one):
    """A wrong row, a bias left out or a scale not fitted would be as far as chance."""
    whole, seen = teacher(tmp_path, family, normalize=False), corpus(family)
    made = derive(whole, FromTeacher.model_validate({one: ALL[one]}), seen)
    reads = made.corpus or seen
    # Texts of a trimmed vocabulary may be of other lengths, and so in another order: compared text by text.
    each = [torch.tensor([list(next(iter(reads.encoded([text]))))]) for text in TEXTS[:10]]
    theirs = [torch.tensor([list(next(iter(seen.encoded([text]))))]) for text in TEXTS[:10]]
    found, wanted = outputs(made.model, each), outputs(whole, theirs)
    torch.manual_seed(5)
    fresh = TorchModel(construct(SentenceBuilder.model_validate(whole.builder), ()), whole.builder)
    chance = outputs(fresh, theirs)
    random = cosine(chance - chance.mean(0), wanted - wanted.mean(0))
    near = cosine(found - wanted.mean(0), wanted - wanted.mean(0))
    assert near > 0.6
    assert near > random + 0.4


@pytest.mark.parametrize("family", FAMILIES)
def test_all_cuts_together_train_save_and_rebuild(tmp_path, family):
    whole, seen = teacher(tmp_path / "teacher", family), corpus(family)
    before = digest(whole)
    made = derive(whole, FromTeacher.model_validate(ALL), seen)
    assert digest(whole) == before, "the teacher is left as it is"
    batches = made.corpus.examples().batches
    found = outputs(made.model, batches)
    assert found.shape[1] == 32, "the teacher's width"
    save(made.model, tmp_path / "student")
    again = load(tmp_path / "student")
    assert torch.equal(outputs(again, batches), found)
    assert made.decisions["tokens"] == len(made.corpus.open().get_vocab()) < 70
    again.module.train()
    loss = again.module(batches[0]).square().sum() + again.module(batches[0])[:, 0].sum()
    loss.backward()
    lacking = [name for name, parameter in again.module.named_parameters() if parameter.grad is None]
    assert lacking == []


def test_it_prunes_heads_and_mlps(tmp_path):
    made = derive(teacher(tmp_path, "bert"), FromTeacher.model_validate(ALL), corpus())
    batch = made.corpus.examples().batches[-1]
    groups = find_groups(made.model.module, batch)
    heads = "transformer.encoder.layer.1.attention.self"
    inner = "transformer.encoder.layer.0.intermediate.dense"
    assert (groups[heads].units, groups[inner].units) == (4, 48)
    smaller = cut(made.model.module, groups, {heads: [0, 3], inner: range(16)})
    model = TorchModel(smaller, made.model.builder)
    save(model, tmp_path / "pruned")
    assert torch.equal(outputs(load(tmp_path / "pruned"), [batch]), outputs(model, [batch]))


@pytest.mark.parametrize("family", ["bert", pytest.param("roberta", marks=pytest.mark.slow),
                                    pytest.param("mpnet", marks=pytest.mark.slow),
                                    pytest.param("distilbert", marks=pytest.mark.slow)])  # fmt: skip
def test_onnx_runtime_agrees_whatever_the_batch_and_length(tmp_path, family):
    made = derive(teacher(tmp_path, family), FromTeacher.model_validate(ALL), corpus(family))
    network = made.model.module.eval()
    # The exporter calls what the table gives `embedding` too.
    graph = to_onnx(network, ids(family) % 40, "embedding")
    ir.save(graph, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    for lengths in ((7, 3, 5), (12, 1), (2,)):
        batch = ids(family, lengths)
        batch = torch.where(batch == PAD[family], batch, batch % 40 + 2)
        (found,) = session.run(None, {"input_ids": batch.numpy()})
        with torch.no_grad():
            np.testing.assert_allclose(found, network(batch).numpy(), atol=1e-5)


def test_texts_that_the_trimmed_vocabulary_cannot_spell_are_counted(tmp_path):
    """`ü` is in the teacher's vocabulary, but not as a character of its own inside a word."""
    text = wordpiece().replace('"[unused0]"', '"über"')
    seen = Corpus([TEXTS, ["die über dog"]], text, 0, 16)
    seen = Corpus(seen.parts, text.replace('"strip_accents": null', '"strip_accents": false'), 0, 16)
    made = derive(teacher(tmp_path, "bert"), FromTeacher(vocabulary=Trim(min_count=2)), seen)
    assert made.decisions["unspelt"] == 1
    assert "1 of 41 training texts have parts that the trimmed vocabulary cannot spell" in made.notes[-1]
    others = [["über", "cat", "日本"]]
    assert unspelt(replace(seen, parts=others), replace(made.corpus, parts=others)) == 1, (
        "what the teacher cannot spell is not lost"
    )


@pytest.mark.parametrize("parts", [TEXTS, np.array(TEXTS, np.dtypes.StringDType()), [TEXTS, "a text"], "a text"])
def test_texts_that_are_in_no_list_are_refused(parts):
    """Their letters would be read as texts, and the vocabulary cut to those."""
    with pytest.raises(ValueError, match=r"`parts` must be lists of texts, but one is the text '.*'; give `\[texts\]`"):
        Corpus(parts, wordpiece(), 0, 16)


@pytest.mark.parametrize("settings", [{}, {"width": 12}, {"vocabulary": {"trim": {"min_count": 2}}},
                                      {"width": 12, "weighting": "none"}])  # fmt: skip
def test_a_static_student(tmp_path, settings):
    whole, seen = teacher(tmp_path / "teacher", "bert"), corpus()
    made = derive_static(whole, Static.model_validate(settings), seen)
    reads = made.corpus or seen
    batches = reads.examples().batches
    found = outputs(made.model, batches)
    width = settings.get("width", 32)
    assert found.shape == (len(TEXTS), width)
    save(made.model, tmp_path / "static")
    assert torch.equal(outputs(load(tmp_path / "static"), batches), found)
    padded = functional.pad(batches[0], (0, 3), value=reads.pad_id)
    torch.testing.assert_close(made.model.module(padded), made.model.module(batches[0]))
    if "width" not in settings:
        vector = made.model.module.table.weight[reads.open().token_to_id("cat")]
        alone = whole.module(torch.tensor([list(next(iter(seen.encoded(["cat"]))))]))[0]
        torch.testing.assert_close(functional.normalize(vector, dim=0), alone, atol=1e-5, rtol=0)
    table = made.model.module.table.weight
    assert not table[reads.pad_id].any()
    if settings.get("weighting") != "none" and "width" not in settings:
        common, rare = (table[reads.open().token_to_id(token)].norm() for token in ("the", "dog"))
        assert rare > common


class Wide(torch.nn.Module):
    """Embeddings 200 wide, of more passes than one only where they are wanted."""

    def __init__(self):
        super().__init__()
        self.table, self.passes = torch.nn.Embedding(200, 200), 0

    def forward(self, given):
        self.passes += 1
        return self.table(given).mean(1)


@pytest.mark.parametrize("trimmed", [{}, {"vocabulary": {"trim": {"min_count": 1000}}}])
def test_a_table_that_is_wider_than_its_tokens_is_refused_before_a_pass_for_each(trimmed):
    whole, seen = TorchModel(Wide().eval(), {}), corpus()
    remedy = "fewer, or lower `min_count`" if trimmed else "fewer$"
    with pytest.raises(ModelError, match=rf"are 200 wide and there are \d+ tokens that tell .*; give \d+ or {remedy}"):
        derive_static(whole, Static.model_validate({"width": 150, **trimmed}), seen)
    assert whole.module.passes == 1


def test_layers_and_mlps_of_images_and_classifiers(tmp_path):
    """Networks that are no sentence encoders: timm's ViT, transformers' ViT and BERT with a head."""
    import transformers

    torch.manual_seed(0)
    small = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64}
    arguments = {"img_size": 16, "patch_size": 4, "embed_dim": 32, "depth": 3, "num_heads": 4}
    timm = TimmBuilder(
        name="vit_tiny_patch16_224", classes=5, in_channels=3, arguments=arguments, version=timm_version()
    )
    images = Examples((torch.rand(8, 3, 16, 16),))
    vit = transformers.ViTConfig(image_size=16, patch_size=4, num_labels=5, **small).to_dict()
    bert = transformers.BertConfig(vocab_size=70, num_labels=5, pad_token_id=0, **small).to_dict()
    for task, config, seen in (("image-classification", vit, images), ("text-classification", bert, corpus())):
        module = settle(build_hf(task, config))
        builder = HfBuilder(task=task, config=_plain(config), version=transformers_version()).plain()
        _check_cut(TorchModel(module, builder), seen, tmp_path / task)
    _check_cut(TorchModel(settle(construct(timm, ())), timm.plain()), images, tmp_path / "timm")


def _plain(config):
    import json

    return json.loads(json.dumps(config))


def _check_cut(whole, seen, folder):
    batches = (seen.examples() if isinstance(seen, Corpus) else seen).batches
    same = derive(
        whole, FromTeacher(layers=(0, 1, 2), ffn=64 if "timm" not in whole.builder["kind"] else 128), seen
    ).model
    torch.testing.assert_close(outputs(same, batches), outputs(whole, batches), atol=1e-5, rtol=0)
    made = derive(whole, FromTeacher(layers=(0, 2), ffn=32), seen).model
    save(made, folder)
    assert torch.equal(outputs(load(folder), batches), outputs(made, batches))
    assert sum(p.numel() for p in made.module.parameters()) < 0.8 * sum(p.numel() for p in whole.module.parameters())


@pytest.mark.parametrize(("settings", "told"), [
    ({"layers": [0, 3]}, "names layer 3, but the teacher has 3, counted from 0 to 2"),
    ({"ffn": 65}, "`ffn` is 65, but the teacher's MLPs have 64 units"),
    ({"width": 32}, "`width` is 32, but the teacher's is 32"),
    ({"embedding_rank": 33}, "`embedding_rank` is 33, but the embeddings are"),
])  # fmt: skip
def test_what_is_more_than_the_teacher_has(tmp_path, settings, told):
    with pytest.raises(ModelError, match=told):
        derive(teacher(tmp_path, "bert"), FromTeacher.model_validate(settings), corpus())


def test_a_tokenizer_that_is_not_the_networks(tmp_path):
    """An id beyond the table would else read past its end."""
    text = wordpiece().replace('"[unused2]": 68', '"zz": 99')
    seen = Corpus([["zz"]], text, 0, 16)
    with pytest.raises(ModelError, match="it is not this network's tokenizer"):
        derive(teacher(tmp_path, "bert"), FromTeacher(vocabulary=Trim(min_count=1)), seen)


def test_images_have_no_vocabulary(tmp_path):
    with pytest.raises(ModelError, match="are for networks that read texts"):
        derive(teacher(tmp_path, "bert"), FromTeacher(width=16), Examples((torch.rand(2, 3, 4, 4),)))


@pytest.mark.parametrize(("plain", "told"), [
    ({"layers": [2, 0]}, "ascending order"), ({"layers": []}, "at least 1 item"),
    ({"width": 64, "embedding_rank": 128}, "must be at most `width`"),
    ({"vocabulary": "all"}, "must be `trim`, or"), ({"vocabulary": {"trim": {"min": 3}}}, "Extra inputs"),
])  # fmt: skip
def test_settings_that_make_no_sense(plain, told):
    with pytest.raises(ValidationError, match=told):
        FromTeacher.model_validate(plain)


def test_settings_round_trip():
    for plain in (ALL, {"vocabulary": {"trim": {"min_count": 2}}}, {"vocabulary": {"trim": None}}):
        made = FromTeacher.model_validate(plain)
        assert FromTeacher.model_validate(made.model_dump(mode="json")) == made


@pytest.mark.parametrize("dropout", [False, True])
def test_the_teachers_dropout_is_left_behind_unless_it_is_asked_for(tmp_path, dropout):
    made = derive(teacher(tmp_path / "a", "bert"), FromTeacher(layers=(0, 2), dropout=dropout), corpus()).model
    save(made, tmp_path / "student")  # a later stage trains what it loads
    module = load(tmp_path / "student").module
    with torch.inference_mode():
        trained, served = module.train()(ids("bert")), module.eval()(ids("bert"))
    assert torch.equal(trained, served) is not dropout
