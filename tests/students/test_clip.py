"""Students made of CLIP's text tower: causal, with quick GELUs, pooled at an end that a trimmed vocabulary moves."""

import json

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from compresslab.errors import ModelError
from compresslab.measure.text_preprocessing import as_texts
from compresslab.models import ModelSpec, Signature
from compresslab.models.architecture import load, save
from compresslab.students import Corpus, Examples, FromTeacher, derive
from tests.clips import save_clip
from tests.towers import things, words

TEXTS = [text for one in things() for text in words(*one)]
RARE = ["zebra crossings juggle quietly", "walruses"]


@pytest.fixture(scope="module", params=[False, True], ids=["clip", "legacy"])
def teacher(request, libraries, tmp_path_factory):
    folder = save_clip(tmp_path_factory.mktemp("clip"), [*TEXTS, *RARE * 9], layers=3, legacy=request.param)
    return ModelSpec(hf=str(folder)).build(Signature("texts", 600, 1, any_width=True))


def corpus(teacher, texts=TEXTS):
    how = teacher.preprocessing
    return Corpus([texts], how.file.read_text(encoding="utf-8"), how.pad_id, how.max_length)


def ids_of(read, texts):
    opened = read.open()
    encoded = [one.ids for one in opened.encode_batch(list(texts))]
    filled = torch.full((len(encoded), max(map(len, encoded))), read.pad_id)
    for row, one in enumerate(encoded):
        filled[row, : len(one)] = torch.tensor(one)
    return filled


def made(teacher, **asked):
    read = corpus(teacher)
    return derive(teacher, FromTeacher.model_validate(asked), read), read


def answers(derived, read, texts=TEXTS[:30]):
    with torch.no_grad():
        return derived.model.module(ids_of(derived.corpus or read, texts))


def expected(teacher, texts=TEXTS[:30]):
    with torch.no_grad():
        return teacher.module(ids_of(corpus(teacher), texts))


def test_a_trimmed_vocabulary_changes_no_answer(teacher):
    """Would catch an end of text that is looked for under its old id, and padding that is taken for it."""
    derived, read = made(teacher, vocabulary="trim")
    sizes = [len(json.loads(one.tokenizer)["model"]["vocab"]) for one in (derived.corpus, read)]
    assert sizes[0] < sizes[1]
    torch.testing.assert_close(answers(derived, read), expected(teacher))
    alone = torch.cat([answers(derived, read, [text]) for text in TEXTS[:30]])
    torch.testing.assert_close(alone, expected(teacher))
    config = derived.model.builder["config"]
    assert config["pad_token_id"] == derived.corpus.pad_id != read.pad_id
    assert config["eos_token_id"] in (2, derived.corpus.pad_id + 1)


def test_every_text_can_still_be_spelled(teacher):
    """By letters inside a word and at its end, whose tokens are two in CLIP's vocabulary."""
    derived, read = made(teacher, vocabulary={"trim": {"min_count": 10**6}})
    before, after = Tokenizer.from_str(read.tokenizer), Tokenizer.from_str(derived.corpus.tokenizer)
    for text in (*TEXTS[:5], *RARE, "ünïcode 日本 🙂!", "x"):
        old, new = before.encode(text), after.encode(text)
        assert after.decode(new.ids) == before.decode(old.ids)
        assert len(new.ids) >= len(old.ids)
        assert new.ids.count(new.ids[-1]) == 1, "the end stands in for what is unknown, and nothing is"


def test_layers_are_copied(teacher):
    derived, read = made(teacher, layers=[0, 2])
    names = dict(teacher.module.named_parameters())
    kept = dict(derived.model.module.named_parameters())
    layer = "text_model.encoder.layers.{}.mlp.fc1.weight"
    assert torch.equal(kept[layer.format(1)], names[layer.format(2)])
    whole, _ = made(teacher, layers=[0, 1, 2])
    torch.testing.assert_close(answers(whole, read), expected(teacher))


def test_narrower_mlps_and_tables_stay_near(teacher):
    for asked, least in (({"ffn": 48}, 0.9), ({"embedding_rank": 24}, 0.8)):
        derived, read = made(teacher, **asked)
        near = (answers(derived, read) * expected(teacher)).sum(1).mean()
        assert near > least, asked
        untrained, _ = made(teacher, **dict.fromkeys(asked, 8))
        assert near > (answers(untrained, read) * expected(teacher)).sum(1).mean()


def test_all_of_it_is_built_again(teacher, tmp_path):
    derived, _ = made(teacher, layers=[0, 2], ffn=48, vocabulary="trim", embedding_rank=16)
    save(derived.model, tmp_path / "student")
    again = load(tmp_path / "student")
    given = ids_of(derived.corpus, TEXTS[:5])
    assert torch.equal(again.module(given), derived.model.module(given))


def test_a_width_is_refused_with_what_is_possible(teacher):
    with pytest.raises(ModelError, match=r"`width` is for sentence encoders.*leave it out, or give `ffn` and `layers`"):
        made(teacher, width=16)
    with pytest.raises(ModelError, match=r"`layers` names layer 5, but the teacher has 3, counted from 0 to 2"):
        made(teacher, layers=[0, 5])


def test_a_tokenizer_of_words_cannot_be_trimmed(teacher):
    plain = json.loads(corpus(teacher).tokenizer)
    plain["model"] = {"type": "WordLevel", "vocab": plain["model"]["vocab"], "unk_token": "<|endoftext|>"}
    read = Corpus([TEXTS], json.dumps(plain), teacher.preprocessing.pad_id, 24)
    with pytest.raises(ModelError, match=r"a `WordLevel` tokenizer cannot be trimmed.*leave `vocabulary` out"):
        derive(teacher, FromTeacher.model_validate({"vocabulary": "trim"}), read)


def test_an_image_tower_keeps_layers_and_mlps(libraries, tmp_path):
    """What is made of the text tower is made of the image tower, but for what only texts have."""
    folder = save_clip(tmp_path / "clip", TEXTS[:40], layers=3)
    tower = ModelSpec(hf=str(folder)).build(Signature("images", 3, 1, any_width=True))
    images = torch.rand(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    derived = derive(tower, FromTeacher.model_validate({"layers": [0, 2], "ffn": 48}), Examples((images,)))
    assert derived.model.module(images).shape == (16, 16)
    with pytest.raises(ModelError, match="`width`, `vocabulary` and `embedding_rank` are for networks that read texts"):
        derive(tower, FromTeacher.model_validate({"vocabulary": "trim"}), Examples((images,)))


def test_texts_are_strings_of_any_script(teacher):
    found = teacher.preprocessing.encode(as_texts(["日本"]))
    assert len(found[0]) > 4
    assert found[0][-1] == np.max(found[0])
