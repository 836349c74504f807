"""Texts on disk: what is taken of them must be what an array of strings gives, or a split would hold other rows."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from compresslab.data import many_texts as module
from compresslab.data.identity import ids_of, sample_hashes
from compresslab.data.many_texts import rows_of_file, rows_of_saved, texts_of_files
from compresslab.data.ragged import read_ragged, writing_ragged
from compresslab.data.stored_texts import StoredTexts, read_texts, write_texts
from compresslab.errors import DataError
from compresslab.measure.text_preprocessing import as_texts
from compresslab.store import Store
from compresslab.tasks.benchmark import content_digest
from tests.texts import write_csv

TEXTS = ["one", "zwölf Boxkämpfer", "a", "日本語", " b ", "👍🏽", "the last but one\nof two lines", "one"]


@pytest.fixture
def stored(tmp_path):
    (tmp_path / "texts").mkdir()
    write_texts(tmp_path / "texts", iter(TEXTS))
    return read_texts(tmp_path / "texts")


@pytest.mark.parametrize(
    "key",
    [
        slice(None), slice(2, 5), slice(None, None, -2), slice(6, 99), slice(3, 3), np.array([5, 0, 5, -1]), [1, 2],
        np.array([], np.int64), np.array([True, False] * 4), np.arange(8)[::-1],
    ],
)  # fmt: skip
def test_rows_are_those_of_an_array_of_strings(stored, key):
    """Also of rows that were taken before, as splits take rows of rows."""
    whole = as_texts(TEXTS)
    taken = stored[key]
    assert isinstance(taken, StoredTexts), "it would be in memory"
    assert taken.tolist() == whole[key].tolist()
    assert (taken.shape, len(taken), taken.ndim, taken.dtype) == (whole[key].shape, len(whole[key]), 1, whole.dtype)
    again = np.array([1, 0])
    order = np.array([7, 3, 1, 0, 2, 4, 6, 5])
    assert stored[order][key].tolist() == whole[order][key].tolist()
    if len(taken) > 1:
        assert taken[again].tolist() == whole[key][again].tolist()


@pytest.mark.parametrize("row", [0, 3, -1, np.int64(5)])
def test_one_row_is_a_string(stored, row):
    assert stored[row] == TEXTS[row]
    assert stored[np.arange(8)[::-1]][row] == TEXTS[::-1][row]


def test_a_row_that_is_not_there_is_refused(stored):
    for texts in (stored, stored[:3]):
        with pytest.raises(IndexError, match="out of range"):
            texts[8]
        with pytest.raises(IndexError, match="out of bounds"):
            texts[np.array([8])]


def test_they_are_the_same_content_as_in_memory(stored):
    """Keys of results hold these: a file that has grown over the limit must not make another task of the same texts."""
    whole, rows = as_texts(TEXTS), np.array([6, 1, 3])
    assert np.array_equal(sample_hashes(stored), sample_hashes(whole))
    assert np.array_equal(ids_of(sample_hashes(stored[rows])), ids_of(sample_hashes(whole[rows])))
    in_memory = content_digest(whole[rows], None, sample_hashes(whole[rows]))
    assert content_digest(stored[rows], None, sample_hashes(stored), rows) == in_memory
    assert np.asarray(stored[rows]).tolist() == whole[rows].tolist()
    assert np.concatenate([stored[rows], whole]).tolist() == [*whole[rows], *TEXTS]


def test_no_texts_are_no_texts(tmp_path):
    write_texts(tmp_path, [])
    assert (read_texts(tmp_path).tolist(), read_texts(tmp_path)[:4].shape) == ([], (0,))


def test_rows_of_any_length_come_back(tmp_path):
    with writing_ragged(tmp_path, np.uint16) as writer:
        writer.add(np.array([1, 2, 65535]), np.array([2, 0, 1]))
        writer.add(np.array([], np.int64), np.array([0]))
        writer.add(np.arange(300), np.array([300]))
    found = read_ragged(tmp_path)
    assert found.values.dtype == np.uint16
    assert [row.tolist() for row in found] == [[1, 2], [], [65535], [], list(range(300))]
    assert [row.tolist() for row in found.rows(np.array([2, 0]))] == [[65535], [1, 2]]
    assert found.lengths.tolist() == [2, 0, 1, 0, 300]
    assert not found.values.flags.writeable


# -- files -----------------------------------------------------------------------------------------------------------


def written(folder, suffix, texts):
    path = folder / f"t{suffix}"
    if suffix == ".txt":
        path.write_text("\n\n".join(texts), encoding="utf-8")
    elif suffix in (".csv", ".tsv"):
        write_csv(path, texts, ["x"] * len(texts), ("text", "x"))
        if suffix == ".tsv":
            path.write_text("text\n" + "\n".join(texts), encoding="utf-8")
    elif suffix == ".jsonl":
        path.write_text("\n".join(json.dumps({"text": text}) for text in texts), encoding="utf-8")
    else:
        table = pytest.importorskip("datasets").Dataset.from_dict({"text": texts, "more": list(range(len(texts)))})
        if suffix == ".parquet":
            table.to_parquet(path)
        else:
            table.save_to_disk(path)
    return path


@pytest.fixture
def store(tmp_path, monkeypatch):
    """Every file is over the limit."""
    monkeypatch.setattr(module, "_IN_MEMORY", 0)
    return Store(tmp_path / "store")


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".tsv", ".jsonl", ".parquet", "-saved"])
def test_a_large_file_of_any_kind_is_what_a_small_one_is(tmp_path, store, suffix, monkeypatch):
    lines = [text.strip() for text in TEXTS if "\n" not in text]
    files = [(written(tmp_path, suffix, lines), "text"), (written(tmp_path, ".txt", ["more"]), "")]
    files = files[::-1] if suffix != ".txt" else files[:1]
    found = texts_of_files(files, store)
    assert isinstance(found, StoredTexts)
    assert found.tolist() == texts_of_files(files).tolist()
    assert [entry.kind for entry in store.entries()] == ["texts"]
    monkeypatch.setattr(module, "each_text", lambda *_: pytest.fail("read again"))
    assert texts_of_files(files, Store(store.root)).tolist() == found.tolist()


def test_what_is_in_the_file_counts_and_not_when_it_was_written(tmp_path, store):
    path = written(tmp_path, ".csv", ["old"])
    before = path.stat()
    assert texts_of_files([(path, "text")], store).tolist() == ["old"]
    path.write_text(path.read_text().replace("old", "new"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert texts_of_files([(path, "text")], store).tolist() == ["new"]
    assert texts_of_files([(path, "x")], store).tolist() == ["x"], "another column is other texts"
    moved = path.rename(tmp_path / "moved.csv")
    assert texts_of_files([(moved, "text")], store).tolist() == ["new"]
    assert len(store.entries()) == 3


@pytest.mark.parametrize(
    ("suffix", "texts", "message"),
    [
        (".csv", ["a", "", "b"], r"t\.csv:3: the text is empty; leave such rows out"),
        (".parquet", ["a", None], r"t\.parquet, row 1: the text is nothing"),
        ("-saved", ["a", " "], r"t-saved \(train\), row 1: the text is empty"),
        (".txt", ["", " "], r"t\.txt: has no texts"),
    ],
)
def test_a_row_without_a_text_is_told_and_nothing_is_kept(tmp_path, store, suffix, texts, message):
    """Half of a file in the cache would be the whole of it in the next run."""
    path = written(tmp_path, suffix, texts)
    with pytest.raises(DataError, match=message):
        texts_of_files([(path, "text")], store)
    assert (store.entries(), store.leftovers()) == ((), ())


def test_what_is_missing_is_told_as_of_small_files(tmp_path, store):
    with pytest.raises(DataError, match=r"none\.txt: there is no such file"):
        texts_of_files([(tmp_path / "none.txt", "text")], store)
    path = written(tmp_path, ".csv", ["a"])
    with pytest.raises(DataError, match=r"t\.csv:1: has no `texts`; did you mean `text`"):
        texts_of_files([(path, "texts")], store)


def test_a_small_file_stays_in_memory(tmp_path):
    store = Store(tmp_path / "store")
    found = texts_of_files([(written(tmp_path, ".txt", ["a", "b"]), "text")], store)
    assert isinstance(found, np.ndarray)
    assert store.entries() == ()


# -- labelled texts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_what_belongs_to_each_text_stays_beside_it(tmp_path, store, suffix):
    path = tmp_path / f"t{suffix}"
    rows = [{"body": text.strip(), "queue": f"label {row}"} for row, text in enumerate(TEXTS)]
    if suffix == ".csv":
        write_csv(path, [row["body"] for row in rows], [row["queue"] for row in rows])
    elif suffix == ".jsonl":
        path.write_text("\n\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    else:
        pytest.importorskip("datasets").Dataset.from_list(rows).to_parquet(path)
    found, small = rows_of_file(path, "body", "queue", store), rows_of_file(path, "body", "queue", None)
    assert isinstance(found.texts, StoredTexts)
    assert (found.texts.tolist(), list(found.values)) == (small.texts.tolist(), list(small.values))
    assert [found.place(row) for row in range(8)] == [small.place(row) for row in range(8)]
    with pytest.raises(DataError, match=r"has no `label`; found .*`queue`"):
        rows_of_file(path, "body", "label", store)


def test_each_split_of_a_saved_data_set_has_its_own_texts(tmp_path, store):
    datasets = pytest.importorskip("datasets")
    column = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["x", "y"])})
    made = {
        name: datasets.Dataset.from_dict({"text": [name, f"{name} too"], "label": [1, 0]}, features=column)
        for name in ("train", "test")
    }
    datasets.DatasetDict(made).save_to_disk(tmp_path / "saved")
    found = rows_of_saved(tmp_path / "saved", "text", "label", store)
    for name in ("train", "test"):
        assert isinstance(found[name].texts, StoredTexts)
        assert found[name].texts.tolist() == [name, f"{name} too"]
        assert (found[name].values, found[name].names) == ([1, 0], ("x", "y"))
    assert len(store.entries()) == 2
