"""Ids of tokens: made once, kept whole or not at all, and the same from disk as from memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from datetime import timedelta

import numpy as np
import pytest

from compresslab.data import many_texts
from compresslab.data.stored_texts import StoredTexts
from compresslab.errors import DataError
from compresslab.measure.text_preprocessing import TextPreprocessing, as_texts
from compresslab.models.text_reading import TextReading
from compresslab.store import Store
from compresslab.tasks import TextClassification, tokens
from compresslab.tasks.tokens import Tokens
from tests.texts import sentences, train_tokenizer, write_csv

DIGEST = "texts"


@pytest.fixture(scope="module")
def tokenizer_file(tmp_path_factory):
    return train_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture
def how(tokenizer_file):
    return TextPreprocessing.of(tokenizer_file, pad_id=0, max_length=8)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def tokenised(monkeypatch):
    """How many texts were given to be tokenised, each time."""
    counts = []
    own = TextPreprocessing.encoded_parts

    def counting(self, texts):
        counts.append(len(texts))
        yield from own(self, texts)

    monkeypatch.setattr(TextPreprocessing, "encoded_parts", counting)
    return counts


@pytest.mark.parametrize("size", [4096, 3])
def test_from_disk_they_are_those_of_memory(how, store, size, monkeypatch):
    """Texts of one token, of none but special ones, of more than are read; a portion that ends in each of them."""
    monkeypatch.setattr("compresslab.measure.text_preprocessing._CHUNK", size)
    texts = as_texts(["a", " ", "\u200b", "refund " * 20, "日本", *sentences(9)[0], "refund " * 9, "."])
    found, in_memory = Tokens(store).of(DIGEST, texts, how), Tokens().of(DIGEST, texts, how)
    expected = [one.tolist() for one in how.encode(texts)]
    assert [row.tolist() for row in found.ids] == [row.tolist() for row in in_memory.ids] == expected
    assert found.ids.values.dtype == np.uint16
    rows = np.array([3, 0, 3])
    assert np.array_equal(how.padded(found.ids.rows(rows)), how.graph_input(texts[rows]))
    assert found.cut == in_memory.cut == int((how.lengths(texts) > 8).sum()) > 1


def test_no_texts_have_no_tokens(how, store):
    for one in (Tokens(), Tokens(store)):
        assert len(one.of(DIGEST, as_texts([]), how).ids) == 0


def test_much_text_is_tokenised_in_portions(how, monkeypatch):
    """4,096 documents at once would take gigabytes while their ids are made."""
    texts = as_texts([text * 10 for text in sentences(40)[0]])
    expected = [ids.tolist() for ids in how.encode(texts)]
    monkeypatch.setattr("compresslab.measure.text_preprocessing._CHARACTERS", 2000)
    parts = [ids for ids, _ in how.encoded_parts(texts)]
    assert len(parts) > 3
    assert [one.tolist() for ids in parts for one in ids] == expected


def test_ids_beyond_two_bytes_are_kept(how, store, monkeypatch):
    monkeypatch.setattr(TextPreprocessing, "vocabulary", property(lambda _: 1 << 17))
    assert Tokens(store).of(DIGEST, as_texts(["refund"]), how).ids.values.dtype == np.int32


def test_another_tokenizer_or_length_is_another_entry(how, tokenizer_file, store, tmp_path, tokenised):
    texts = as_texts(sentences(5)[0])
    others = [
        how,
        TextPreprocessing.of(tokenizer_file, pad_id=0, max_length=9),
        TextPreprocessing.of(train_tokenizer(tmp_path / "other", vocabulary=60), pad_id=0, max_length=8),
    ]
    for _ in range(2):
        for one in others:
            found = Tokens(store).of(DIGEST, texts, one).ids
            assert [row.tolist() for row in found] == [row.tolist() for row in one.encode(texts)]
    assert len(store.entries()) == 3
    tokenised.clear()
    for one in others:
        Tokens(store).of(DIGEST, texts, one)
    assert tokenised == []
    Tokens(store).of("other texts", texts, how)
    assert tokenised == [5]


def test_where_none_may_be_cut_ids_that_were_cut_are_not_taken(how, tokenizer_file, store):
    texts = as_texts(["refund " * 20])
    Tokens(store).of(DIGEST, texts, how)
    strict = TextPreprocessing.of(tokenizer_file, pad_id=0, max_length=8, truncate=False)
    with pytest.raises(DataError, match=r"text 0 \('refund .*\) has 22 tokens, but at most 8"):
        Tokens(store).of(DIGEST, texts, strict)


def test_another_version_of_the_library_is_another_entry(how, store, monkeypatch, tokenised):
    Tokens(store).of(DIGEST, as_texts(["refund"]), how)
    monkeypatch.setattr(tokens, "library_versions", lambda *_: {"tokenizers": "99"})
    Tokens(store).of(DIGEST, as_texts(["refund"]), how)
    assert tokenised == [1, 1]


def test_what_is_interrupted_leaves_nothing(how, store, monkeypatch):
    """Half of the ids would make every later row another text's."""
    monkeypatch.setattr("compresslab.measure.text_preprocessing._CHUNK", 2)
    own, calls = TextPreprocessing._cutting, []

    def interrupted(self):
        calls.append(self)
        raise KeyboardInterrupt("now")

    texts = as_texts(["refund", "my", "refund " * 20, "late"])
    monkeypatch.setattr(TextPreprocessing, "_cutting", interrupted)
    with pytest.raises(KeyboardInterrupt, match="now"):
        Tokens(store).of(DIGEST, texts, how)
    assert len(calls) == 1
    assert (store.entries(), store.leftovers()) == ((), ())
    monkeypatch.setattr(TextPreprocessing, "_cutting", own)
    assert len(Tokens(store).of(DIGEST, texts, how).ids) == 4


def test_what_was_damaged_is_made_again(how, store, tokenised):
    texts = as_texts(sentences(5)[0])
    expected = [row.tolist() for row in Tokens(store).of(DIGEST, texts, how).ids]
    (entry,) = store.entries()
    values = entry.folder / "values.npy"
    values.write_bytes(values.read_bytes()[:-2] + b"\x07\x00")
    told = []
    assert [row.tolist() for row in Tokens(Store(store.root, told.append)).of(DIGEST, texts, how).ids] == expected
    assert tokenised == [5, 5]
    assert "was damaged" in told[0]


# -- tasks -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def load(tokenizer_file, tmp_path):
    texts, labels = sentences(90)
    write_csv(tmp_path / "tickets.csv", texts, labels)
    (tmp_path / "transfer.txt").write_text("\n".join(sentences(60, seed=5)[0]))
    data = TextClassification(
        csv=str(tmp_path / "tickets.csv"), text="body", label="queue", transfer=str(tmp_path / "transfer.txt"),
        max_length=9,
    )  # fmt: skip
    reading = TextReading("the model", tokenizer_file, 0, 64, None)
    return lambda store: data.load(tmp_path, reading, store)


def test_a_second_run_tokenises_nothing(load, store, tokenised):
    task = load(store)
    assert sorted(tokenised) == sorted(len(split.inputs) for split in task.splits.values()), "each split once"
    batch = task.batch("train", np.arange(4), None)
    tokenised.clear()
    again = load(Store(store.root))
    assert np.array_equal(again.batch("train", np.arange(4), None), batch)
    assert tokenised == []
    assert again.notes == task.notes
    assert "have more than 9 tokens" in task.notes[0]
    assert {entry.kind for entry in store.entries()} == {"tokens"}


def test_a_fresh_run_tokenises_each_split_once_more(load, store, tokenised):
    task = load(store)
    tokenised.clear()
    load(Store(store.root, fresh=True)).batch("train", np.arange(4), None)
    assert sorted(tokenised) == sorted(len(split.inputs) for split in task.splits.values())


def test_texts_on_disk_make_the_same_task(load, store, monkeypatch):
    """Or a file over the limit would train other rows than the same one in memory."""
    task = load(None)
    monkeypatch.setattr(many_texts, "_IN_MEMORY", 0)
    stored = load(store)
    assert stored.digest == task.digest
    assert stored.splits["transfer"].inputs.tolist() == task.splits["transfer"].inputs.tolist()
    rows = np.array([7, 0, 40])
    assert np.array_equal(stored.batch("transfer", rows, None), task.batch("transfer", rows, None))
    assert np.array_equal(stored.splits["transfer"].ids, task.splits["transfer"].ids)
    kinds = {name: type(split.inputs) for name, split in stored.splits.items()}
    assert kinds == {"train": StoredTexts, "transfer": StoredTexts} | dict.fromkeys(
        ("calibration", "validation", "test"), np.ndarray
    )


def test_what_was_pruned_is_made_again_and_a_run_that_goes_on_keeps_what_it_has(load, store):
    task = load(store)
    batch = task.batch("train", np.arange(4), None)
    assert {entry.kind for entry in store.prune(older_than=timedelta(0))} == {"tokens"}
    assert np.array_equal(task.batch("train", np.arange(4), None), batch)
    assert np.array_equal(load(store).batch("train", np.arange(4), None), batch)


_BOUNDED = textwrap.dedent(
    """
    import json, resource, sys
    from pathlib import Path

    import numpy as np

    from compresslab.measure.text_preprocessing import as_texts
    from compresslab.models.text_reading import TextReading
    from compresslab.store import Store
    from compresslab.tasks import TextClassification

    folder, kept = Path(sys.argv[1]), json.loads(sys.argv[2])
    reading = TextReading("the model", folder / "tokenizer.json", 0, 4096, None)
    common = {"csv": str(folder / "tickets.csv"), "text": "body", "label": "queue"}
    # What is loaded once, whatever the data, is loaded before the limit is set.
    warm = TextClassification(**common, transfer=str(folder / "few.txt")).load(folder, reading)
    warm.batch("train", np.arange(2), None)
    used = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmData"))
    limit = int(used.split()[1]) * 1024 + int(sys.argv[3])
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    data = TextClassification(**common, transfer=str(folder / "many.txt"))
    task = data.load(folder, reading, Store(folder / "store") if kept else None)
    count = len(task.splits["transfer"].inputs)
    widths = [task.batch("transfer", np.arange(at, at + 64) % count, None).shape[1] for at in range(0, count, 1000)]
    print(json.dumps([count, max(widths)]))
    """
)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux bounds the memory of data by RLIMIT_DATA")
def test_more_texts_and_tokens_than_memory_holds_are_read(tokenizer_file, tmp_path):
    """64 MB of texts and 23 MB of ids, in 64 MB; in memory they must not fit, or nothing is shown."""
    texts, labels = sentences(90)
    write_csv(tmp_path / "tickets.csv", texts, labels)
    (tmp_path / "tokenizer.json").write_bytes(tokenizer_file.read_bytes())
    (tmp_path / "few.txt").write_text("\n".join(sentences(60, seed=5)[0]))
    words = " ".join(sentences(200, seed=6)[0])[: 1 << 12]
    with (tmp_path / "many.txt").open("w") as file:
        for row in range(1 << 14):
            file.write(f"{row} {words}\n")

    def bounded(*, stored):
        return subprocess.run(
            [sys.executable, "-P", "-c", _BOUNDED, str(tmp_path), json.dumps(stored), str(64 << 20)],
            capture_output=True, text=True, check=False, env={**os.environ, "TOKENIZERS_PARALLELISM": "false"},
        )  # fmt: skip

    found = bounded(stored=True)
    assert found.returncode == 0, found.stderr
    count, longest = json.loads(found.stdout)
    assert count == 1 << 14
    assert longest > 600
    again = bounded(stored=True)
    assert again.stdout == found.stdout, again.stderr
    assert "MemoryError" in bounded(stored=False).stderr
