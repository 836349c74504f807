"""A tokenizer that is another network's is told by the files beside it, before it reads anything wrongly."""

from __future__ import annotations

import json

import pytest

from compresslab.errors import ModelError
from compresslab.models.tokenizer_files import padding_of, require_own_tokenizer
from tests.texts import train_tokenizer


@pytest.fixture
def tokenizer(tmp_path):
    return train_tokenizer(tmp_path / "model")


def vocabulary(tokenizer):
    found = json.loads(tokenizer.read_text(encoding="utf-8"))["model"]["vocab"]
    return sorted(found, key=found.__getitem__)


def test_what_is_of_one_place_is_taken(tokenizer):
    """Also with a few tokens that somebody has spelled anew."""
    tokenizer.with_name("vocab.txt").write_text("\n".join([*vocabulary(tokenizer)[:-1], "[mine]", ""]))
    tokenizer.with_name("tokenizer_config.json").write_text(json.dumps({"cls_token": "[CLS]", "pad_token": "[PAD]"}))
    require_own_tokenizer("the model", tokenizer, 0)
    require_own_tokenizer("the model", tokenizer, None)
    assert padding_of(tokenizer) == 0


def test_padding_that_has_another_id_is_told(tmp_path):
    """By the token's own id, not by what its file says of padding, which tools write as they like."""
    other = train_tokenizer(tmp_path / "other", pad_first=False)
    with pytest.raises(ModelError, match=r"the model: its tokenizer pads with id 4, but config\.json says 0"):
        require_own_tokenizer("the model", other, 0)


def test_special_tokens_that_it_does_not_have_are_told(tokenizer):
    tokenizer.with_name("tokenizer_config.json").write_text(json.dumps({"cls_token": {"content": "<s>"}}))
    with pytest.raises(ModelError, match=r"has no `<s>`, which tokenizer_config\.json beside it names as `cls_token`"):
        require_own_tokenizer("the model", tokenizer, 0)


def test_another_vocabulary_of_the_same_size_is_told(tokenizer):
    """The network has a row for every id, so nothing else would show it."""
    first, second, *others = vocabulary(tokenizer)
    tokenizer.with_name("vocab.txt").write_text("\n".join([first, second, *others[::-1]]))
    with pytest.raises(ModelError, match=r"numbers \d+ of \d+ tokens otherwise than vocab\.txt beside it"):
        require_own_tokenizer("the model", tokenizer, 0)
