"""Smaller vocabularies: what stays is tokenised as before, and whatever could be spelled still can be."""

import json

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from compresslab.errors import ModelError
from compresslab.measure.text_preprocessing import unknown_id
from compresslab.students.vocabulary import counted, trim
from tests.models.encoders import wordpiece

TEXTS = ["the cat sat on the mat", "the cats sat", "running dogs run on mats", "a dog sat on a cat"] * 3
RARE = ["walruses juggle quietly with walruses"]
NEW = ["zebra mats", "dogs sing", "the quick brown fox", "mat"]


def bpe():
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.decoder = decoders.ByteLevel()
    made.train_from_iterator([*TEXTS, *RARE], trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<s>", "<pad>", "</s>"], initial_alphabet=alphabet,
        show_progress=False))  # fmt: skip
    return made.to_str()


def unigram():
    made = Tokenizer(models.Unigram())
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    letters = list("▁abcdefghijklmnopqrstuvwxyz")
    made.train_from_iterator([*TEXTS, *RARE], trainers.UnigramTrainer(
        vocab_size=80, special_tokens=["<s>", "<pad>", "<unk>"], unk_token="<unk>", initial_alphabet=letters,
        show_progress=False))  # fmt: skip
    return made.to_str()


def opened(text):
    tokenizer = Tokenizer.from_str(text)
    tokenizer.no_padding()
    return tokenizer


def counts_of(text, texts):
    tokenizer = opened(text)
    size = 1 + max(tokenizer.get_vocab(with_added_tokens=True).values())
    return counted((one.ids for one in tokenizer.encode_batch(texts)), size)


KINDS = pytest.mark.parametrize("make", [wordpiece, bpe, unigram])


@KINDS
def test_texts_of_kept_tokens_are_tokenised_as_before(make):
    """By the same pieces, whose ids `kept` leads back to the old ones: rows copied by it are the right ones."""
    whole = make()
    counts = counts_of(whole, [*TEXTS, *RARE])
    trimmed = trim(whole, counts, 3)
    assert len(trimmed.kept) < len(counts)
    assert (np.diff(trimmed.kept) > 0).all()
    before, after = opened(whole), opened(trimmed.tokenizer)
    assert len(trimmed.kept) == len(after.get_vocab(with_added_tokens=True))
    for text in TEXTS:
        old, new = before.encode(text), after.encode(text)
        assert new.tokens == old.tokens
        assert trimmed.kept[new.ids].tolist() == old.ids


@KINDS
def test_every_text_that_could_be_spelled_still_can_be(make):
    """Also by a vocabulary that is cut to the bone."""
    whole = make()
    trimmed = trim(whole, counts_of(whole, TEXTS), 10**6)
    before, after = opened(whole), opened(trimmed.tokenizer)
    unknown = unknown_id(whole), unknown_id(trimmed.tokenizer)
    for text in (*NEW, "été", "日本"):
        old, new = before.encode(text), after.encode(text)
        assert new.ids.count(unknown[1]) == old.ids.count(unknown[0])
        assert len(new.ids) >= len(old.ids)
        if make is bpe:
            assert after.decode(new.ids) == text


def test_special_tokens_get_their_new_ids_wherever_they_are_written():
    whole = wordpiece()
    plain = json.loads(whole)
    counts = np.zeros(70, np.int64)
    # [SEP] and [CLS] move when a token before them goes: they are moved behind the words here.
    words = [token for token in plain["model"]["vocab"] if token not in ("[CLS]", "[SEP]")]
    vocab = {token: index for index, token in enumerate([*words, "[CLS]", "[SEP]"])}
    plain["model"]["vocab"] = vocab
    for token in plain["added_tokens"]:
        token["id"] = vocab[token["content"]]
    for token in plain["post_processor"]["special_tokens"].values():
        token["ids"] = [vocab[token["id"]]]
    trimmed = trim(json.dumps(plain), counts, 1)
    encoded = opened(trimmed.tokenizer).encode("ab")
    assert encoded.tokens == ["[CLS]", "a", "##b", "[SEP]"]
    assert trimmed.kept[encoded.ids].tolist() == [vocab[token] for token in encoded.tokens]
    assert encoded.ids[0] < 69 - 10, "it has moved"


@pytest.mark.parametrize("merges", [["a b", "ab c", "b c", "c a"], [["a", "b"], ["ab", "c"], ["b", "c"], ["c", "a"]]])
def test_merges_that_a_kept_token_needs_stay(merges):
    """A token without the one that it is merged from could never be made again."""
    made = {"version": "1.0", "added_tokens": [], "model": {
        "type": "BPE", "vocab": {"a": 0, "b": 1, "c": 2, "ab": 3, "abc": 4, "bc": 5, "ca": 6},
        "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
        "fuse_unk": False,
        "merges": merges}}  # fmt: skip
    trimmed = trim(json.dumps(made), np.array([0, 0, 0, 0, 5, 0, 0]), 5)
    assert opened(trimmed.tokenizer).encode("abc").tokens == ["abc"]
    assert set(json.loads(trimmed.tokenizer)["model"]["vocab"]) == {"a", "b", "c", "ab", "abc"}


def test_what_it_refuses():
    words = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]")).to_str()
    with pytest.raises(
        ModelError, match="a `WordLevel` tokenizer cannot be trimmed, only that of WordPiece, BPE, Unigram"
    ):
        trim(words, np.zeros(2, np.int64), 1)
    with pytest.raises(ModelError, match=r"no tokenizer\.json"):
        trim("{", np.zeros(2, np.int64), 1)
    with pytest.raises(ModelError, match="gives id 7, but the network has 5 embeddings"):
        counted([[1, 7]], 5)
