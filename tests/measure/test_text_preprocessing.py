"""Texts to ids: what the network, the gate and every client read must be the same."""

from __future__ import annotations

import numpy as np
import pytest

from compresslab.errors import ArtifactError, DataError
from compresslab.measure.padding import trimmed
from compresslab.measure.preprocessing import ImagePreprocessing
from compresslab.measure.subject import made_up_samples
from compresslab.measure.text_preprocessing import TextPreprocessing, as_texts
from tests.texts import train_tokenizer


@pytest.fixture(scope="module")
def tokenizer_file(tmp_path_factory):
    return train_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture
def how(tokenizer_file):
    return TextPreprocessing.of(tokenizer_file, pad_id=0, max_length=8)


def test_pads_to_the_longest_of_the_batch_and_not_as_the_file_says(how):
    """The file asks for 40 columns and a cut at 5 tokens; neither may come through."""
    ids = how.graph_input(as_texts(["refund", "refund my invoice charge"]))
    assert ids.dtype == np.int64
    assert ids.shape == (2, 6)
    specials = [how.open_tokenizer().token_to_id(name) for name in ("[CLS]", "[SEP]")]
    assert ids[0, [0, 2]].tolist() == specials
    assert ids[0, 3:].tolist() == [0, 0, 0]
    assert (ids[1] != 0).all()


def test_a_long_text_is_cut_with_its_last_special_token_kept(how):
    long = as_texts(["refund " * 20])
    ids = how.graph_input(long)
    assert ids.shape == (1, 8)
    assert ids[0, -1] == how.open_tokenizer().token_to_id("[SEP]")
    assert how.lengths(long).tolist() == [22]


def test_a_long_text_is_refused_where_none_may_be_cut(tokenizer_file):
    strict = TextPreprocessing.of(tokenizer_file, pad_id=0, max_length=8, truncate=False)
    with pytest.raises(DataError, match=r"text 1 \('refund .*'\) has 22 tokens, but at most 8"):
        strict.graph_input(as_texts(["refund", "refund " * 20]))


def test_what_the_tokenizer_does_not_know_is_counted(how):
    """By texts, and as a share of the tokens that are of a text."""
    assert how.around == 2
    ids = how.encode(as_texts(["refund invoice", "refund 日", "日"]))
    assert how.unknown(ids) == (2, pytest.approx(2 / 5))
    assert how.unknown([]) == (0, 0.0)


def test_a_dump_says_nothing_of_where_the_file_is(how, tmp_path):
    """The dump is part of cache keys and manifests, which must be the same wherever they lie."""
    again = TextPreprocessing.model_validate(how.model_dump(mode="json"))
    assert again == how.in_folder(tmp_path)
    assert str(how.file.parent) not in how.model_dump_json()
    with pytest.raises(ArtifactError, match=r"where `tokenizer\.json` lies is not known"):
        again.graph_input(as_texts(["refund"]))


def test_another_tokenizer_is_refused(how, tmp_path):
    train_tokenizer(tmp_path, vocabulary=60)
    with pytest.raises(ArtifactError, match="is not the tokenizer that the model was made with"):
        how.in_folder(tmp_path).graph_input(as_texts(["refund"]))


def test_a_missing_tokenizer_is_told(how, tmp_path):
    with pytest.raises(ArtifactError, match="the tokenizer is missing"):
        how.in_folder(tmp_path).graph_input(as_texts(["refund"]))


def test_a_file_that_is_no_tokenizer_is_refused(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ArtifactError, match="cannot be read as a tokenizer"):
        TextPreprocessing.of(tmp_path / "tokenizer.json", pad_id=0, max_length=8)


def test_other_samples_are_refused(how):
    with pytest.raises(DataError, match=r"texts must be strings \[n\].*uint8 \[2, 3\]"):
        how.graph_input(np.zeros((2, 3), np.uint8))


def test_images_refuse_texts():
    grey = ImagePreprocessing(height=2, width=2, channels=1, mean=(0.0,), std=(1.0,))
    with pytest.raises(DataError, match="images must be uint8"):
        grey.graph_input(as_texts(["refund"]))


def test_made_up_texts_are_read(how):
    made = made_up_samples(how)
    assert how.graph_input(made).shape[0] == len(made)
    assert made.tolist() == made_up_samples(how).tolist()


def test_common_padding_is_cut():
    ids = np.array([[5, 6, 0, 0], [5, 0, 0, 0]])
    assert trimmed(ids, 0).tolist() == [[5, 6], [5, 0]]
    assert trimmed(np.zeros((2, 3), np.int64), 0).shape == (2, 1)


def test_padding_inside_a_text_stays():
    """An id that is the padding's between others must not end the text."""
    assert trimmed(np.array([[5, 0, 6, 0]]), 0).tolist() == [[5, 0, 6]]
