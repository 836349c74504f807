"""Tasks on texts: splits, labels, tokens, and what is refused before anything is trained."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from compresslab.data.identity import ids_of, sample_hashes
from compresslab.errors import DataError, ModelError
from compresslab.measure import text_preprocessing
from compresslab.measure.text_preprocessing import TextPreprocessing
from compresslab.models.signature import Signature
from compresslab.models.text_reading import TextReading
from compresslab.tasks import TextClassification, TextRegression
from tests.texts import QUEUES, sentences, train_tokenizer, write_csv


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    texts, labels = sentences(240)
    write_csv(folder / "tickets.csv", texts, labels)
    write_csv(folder / "scores.csv", texts, [len(text.split()) for text in texts], ("body", "words"))
    train_tokenizer(folder / "model")
    return folder


@pytest.fixture
def reading(folder):
    return TextReading("the model", folder / "model" / "tokenizer.json", 0, 64, QUEUES[::-1])


def classification(folder, **settings):
    return TextClassification(**{"csv": str(folder / "tickets.csv"), "text": "body", "label": "queue", **settings})


def test_a_csv_is_split_and_reads_by_the_models_tokenizer(folder, reading, tmp_path):
    task = classification(folder).load(tmp_path, reading)
    assert task.labels == QUEUES[::-1]
    assert task.name == "tickets"
    assert {name: len(split.inputs) for name, split in task.splits.items()} == {
        "train": 168, "calibration": 12, "validation": 24, "test": 36,
    }  # fmt: skip
    texts, labels = sentences(240)
    split = task.splits["validation"]
    told = dict(zip(texts, labels, strict=True))
    assert [told[text] for text in split.inputs] == [task.labels[target] for target in split.targets]
    assert np.array_equal(split.ids, ids_of(sample_hashes(split.inputs)))
    assert task.preprocessing.max_length == 64
    assert task.signature == Signature("texts", task.preprocessing.vocabulary, 3)


def test_a_batch_is_what_the_client_would_feed_and_as_wide_as_its_longest(folder, reading, tmp_path):
    task = classification(folder).load(tmp_path, reading)
    rows = np.array([5, 0, 3])
    batch = task.batch("train", rows, 7)
    assert batch.dtype == np.int64
    assert np.array_equal(batch, task.preprocessing.graph_input(task.splits["train"].inputs[rows]))


def test_texts_are_tokenised_once(folder, reading, tmp_path, monkeypatch):
    task = classification(folder).load(tmp_path, reading)
    monkeypatch.setattr(TextPreprocessing, "encode", lambda *_: pytest.fail("tokenised again"))
    task.batch("train", np.arange(4), None)


def test_another_tokenizer_reads_the_same_split(folder, reading, tmp_path):
    """A student with a vocabulary of its own must get its own ids, not remembered ones, and its rows must align."""
    task = classification(folder).load(tmp_path, reading)
    own = TextPreprocessing.of(train_tokenizer(tmp_path / "own", vocabulary=60), pad_id=0, max_length=64)
    seen = task.read_by(own)
    rows = np.arange(3)
    assert np.array_equal(seen.batch("train", rows, None), own.graph_input(task.splits["train"].inputs[rows]))
    assert not np.array_equal(seen.batch("train", rows, None), task.batch("train", rows, None))
    assert task.read_by(None) is task
    assert seen.splits is task.splits


def test_the_digest_knows_tokenizer_and_length_but_not_where_they_are(folder, reading, tmp_path):
    task = classification(folder).load(tmp_path, reading)
    moved = replace(reading, tokenizer=Path(shutil.copy(reading.tokenizer, tmp_path / "moved.json")))
    assert classification(folder).load(tmp_path, moved).digest == task.digest
    other = replace(reading, tokenizer=train_tokenizer(tmp_path / "other", vocabulary=60))
    assert classification(folder).load(tmp_path, other).digest != task.digest
    assert classification(folder, max_length=32).load(tmp_path, reading).digest != task.digest


def test_long_texts_are_told_or_refused(folder, reading, tmp_path):
    task = classification(folder, max_length=10).load(tmp_path, reading)
    long = int((task.preprocessing.lengths(task.splits["test"].inputs) > 10).sum())
    assert long
    assert any(note.startswith(f"{long} of 36 test texts (") and "first 10 are read" in note for note in task.notes)
    assert not classification(folder).load(tmp_path, reading).notes
    with pytest.raises(DataError, match="tokens, but at most 10 are read"):
        classification(folder, max_length=10, too_long="error").load(tmp_path, reading)


def test_texts_that_come_again_are_told(folder, reading, tmp_path):
    """With another label they contradict, which no accuracy can be perfect on."""
    texts, labels = sentences(240)
    others = [QUEUES[(QUEUES.index(label) + 1) % 3] for label in labels[:60]]
    write_csv(tmp_path / "t.csv", [*texts, *texts[:60], *texts[:60]], [*labels, *labels[:60], *others])
    (note,) = [one for one in classification(folder, csv=str(tmp_path / "t.csv")).load(tmp_path, reading).notes
               if "copies" in one]  # fmt: skip
    copies, of, contradicting = map(int, re.findall(r"\d+", note))
    assert (copies, copies > 0) == (2 * contradicting, True)
    assert of > copies
    assert not any("copies" in one for one in classification(folder).load(tmp_path, reading).notes)


def test_a_text_that_may_not_be_cut_is_told_where_it_stands(folder, reading, tmp_path):
    texts, labels = sentences(240)
    write_csv(tmp_path / "t.csv", [*texts, "please " * 80], [*labels, "login"])
    with pytest.raises(DataError, match=r"t\.csv:242: the text 'please .* has 82 tokens.*1 of \d+ texts of `\w+` have"):
        classification(folder, csv=str(tmp_path / "t.csv"), too_long="error").load(tmp_path, reading)


def test_texts_of_which_none_may_be_cut_are_tokenised_once(folder, reading, tmp_path, monkeypatch):
    """To look whether one is too long took as long as to read them all."""
    read = []
    portions = text_preprocessing.portions

    def counted(texts):
        read.append(len(texts))
        return portions(texts)

    monkeypatch.setattr(text_preprocessing, "portions", counted)
    task = classification(folder, too_long="error").load(tmp_path, reading)
    assert sorted(read) == sorted(len(split.inputs) for split in task.splits.values())


def test_a_text_of_which_nothing_is_read_is_told_where_it_stands(folder, reading, tmp_path):
    """Tokenizers of BERT's kind throw away accents, also one that stands alone."""
    texts, labels = sentences(240)
    write_csv(tmp_path / "t.csv", [*texts, "\u0301"], [*labels, "login"])
    with pytest.raises(DataError, match=r"t\.csv:242: the text .* has no token of its own"):
        classification(folder, csv=str(tmp_path / "t.csv")).load(tmp_path, reading)


def test_texts_in_a_language_that_the_tokenizer_does_not_know_are_told(folder, reading, tmp_path):
    """A network answers for them too, whatever they say."""
    strange = [f"日本 {number}" for number in range(20)]
    write_csv(tmp_path / "dev.csv", strange, [*QUEUES, *["login"] * 17])
    task = classification(folder, validation_data=str(tmp_path / "dev.csv")).load(tmp_path, reading)
    assert any(
        note.startswith("20 of 20 validation texts have parts that the tokenizer does not") for note in task.notes
    )
    assert not any("train texts have parts" in note for note in task.notes)


def test_unlabelled_texts_come_from_lists_of_files(folder, reading, tmp_path):
    fresh, _ = sentences(40, seed=5)
    (tmp_path / "lines.txt").write_text("\n".join(fresh[:20]))
    write_csv(tmp_path / "more.csv", fresh[20:30], ["x"] * 10, ("review", "x"))
    (tmp_path / "calibration.txt").write_text("\n".join(fresh[30:]))
    task = classification(
        folder,
        transfer=(str(tmp_path / "lines.txt"), {"file": str(tmp_path / "more.csv"), "text": "review"}),
        calibration_data=str(tmp_path / "calibration.txt"),
    ).load(tmp_path, reading)
    assert task.splits["transfer"].inputs.tolist() == fresh[:30]
    assert sorted(task.splits["calibration"].inputs.tolist()) == sorted(fresh[30:])
    assert task.splits["transfer"].targets is None


def test_transfer_may_not_hold_what_is_tested_on(folder, reading, tmp_path):
    (tmp_path / "lines.txt").write_text("\n".join(sentences(240)[0]))
    with pytest.raises(DataError, match=r"`transfer`: 36 of 240 texts are also in the test split"):
        classification(folder, transfer=str(tmp_path / "lines.txt")).load(tmp_path, reading)


def test_regression_on_texts(folder, reading, tmp_path):
    data = TextRegression(csv=str(folder / "scores.csv"), text="body", target="words", metric="pearson")
    task = data.load(tmp_path, replace(reading, labels=None))
    split = task.splits["test"]
    assert split.targets.dtype == np.float32
    assert split.targets.tolist() == [len(text.split()) for text in split.inputs]
    assert (task.target, task.outputs, task.metric) == ("words", 1, "pearson")
    assert task.signature.center == pytest.approx(task.splits["train"].targets.mean(), abs=1e-4)


def test_without_a_tokenizer_nothing_is_read(folder, reading, tmp_path):
    with pytest.raises(DataError, match=r"the model: has no tokenizer\.json.*give `tokenizer: FILE`"):
        classification(folder).load(tmp_path, replace(reading, tokenizer=None))
    with pytest.raises(DataError, match="`model` is no folder with a tokenizer"):
        classification(folder).load(tmp_path)


def test_a_tokenizer_alone_names_its_own_padding(folder, tmp_path):
    given = classification(folder, tokenizer=str(folder / "model" / "tokenizer.json")).load(tmp_path)
    assert given.preprocessing.pad_id == given.preprocessing.open_tokenizer().token_to_id("[PAD]")
    assert given.preprocessing.max_length == 512


def test_a_tokenizer_with_other_ids_than_the_models_is_refused(folder, reading, tmp_path):
    other = train_tokenizer(tmp_path / "other", pad_first=False)
    with pytest.raises(
        DataError, match=r"is not the tokenizer of the model, which has other ids for \d+ of \d+ tokens"
    ):
        classification(folder, tokenizer=str(other)).load(tmp_path, reading)
    same = shutil.copy(reading.tokenizer, tmp_path / "same.json")
    assert classification(folder, tokenizer=str(same)).load(tmp_path, reading).labels


def test_more_tokens_than_the_model_has_positions_for_are_refused(folder, reading, tmp_path):
    with pytest.raises(ModelError, match="`max_length: 65` is more than the 64 tokens"):
        classification(folder, max_length=65).load(tmp_path, reading)


def test_a_model_without_padding_is_refused(folder, reading, tmp_path):
    with pytest.raises(ModelError, match="has no `pad_token_id`"):
        classification(folder).load(tmp_path, replace(reading, pad_id=None))


def test_texts_are_not_mixed(folder, reading, tmp_path):
    task = classification(folder).load(tmp_path, reading)
    with pytest.raises(DataError, match="texts cannot be mixed"):
        task.batch("train", np.arange(4), 0, mixup=0.5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"csv": None}, "must be given"),
        ({"jsonl": "x.jsonl"}, "exactly one|only one|one of"),
        ({"csv": "tickets.txt"}, r"`csv` must be a file that ends in \.csv or \.tsv"),
        ({"csv": None, "hub": "a/b", "test_data": "t.csv"}, "`hub` has its own splits"),
    ],
)
def test_settings_that_make_no_sense_are_refused(folder, settings, message):
    with pytest.raises(ValidationError, match=message):
        classification(folder, **settings)
