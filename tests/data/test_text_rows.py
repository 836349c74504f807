"""Files of texts: what is read of each kind, and the line that an error names."""

from __future__ import annotations

import json

import pytest

from compresslab.data.identity import ids_of, sample_hashes
from compresslab.data.text_rows import each_text, joined_rows, read_rows
from compresslab.errors import DataError
from compresslab.measure.text_preprocessing import as_texts

HALF = r"has '\\ud800', half of a surrogate pair, .*; write the letter whole, or leave the row out"


def test_csv_with_quotes_line_breaks_and_a_byte_order_mark(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('\ufeffid,body,queue\n1,"a, b\nc",x\n\n2,d,y\n', encoding="utf-8")
    rows = read_rows(path, "body", "queue")
    assert rows.texts.tolist() == ["a, b\nc", "d"]
    assert rows.values == ["x", "y"]
    assert [rows.place(row) for row in range(2)] == [f"{path}:2", f"{path}:5"]


def test_tsv(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_text("body\tqueue\na, b\tx\n", encoding="utf-8")
    assert read_rows(path, "body", "queue").texts.tolist() == ["a, b"]


def test_jsonl(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text('{"text": "a", "score": 1.5}\n\n{"text": "b", "score": 2}\n', encoding="utf-8")
    rows = read_rows(path, "text", "score")
    assert (rows.texts.tolist(), rows.values, rows.place(1)) == (["a", "b"], [1.5, 2], f"{path}:3")


def test_lines(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text(" a \n\nb\r\n", encoding="utf-8")
    rows = read_rows(path, "text", None)
    assert rows.texts.tolist() == [" a ", "b"]
    assert rows.place(1) == f"{path}:3"


def test_parquet_and_what_datasets_saved(tmp_path):
    datasets = pytest.importorskip("datasets")
    table = datasets.Dataset.from_dict({"text": ["a", "b"], "label": ["x", "y"]})
    table.to_parquet(str(tmp_path / "t.parquet"))
    rows = read_rows(tmp_path / "t.parquet", "text", "label")
    assert (rows.texts.tolist(), rows.values) == (["a", "b"], ["x", "y"])
    datasets.DatasetDict({"train": table, "other": table}).save_to_disk(str(tmp_path / "saved"))
    both = read_rows(tmp_path / "saved", "text", None)
    assert both.texts.tolist() == ["a", "b", "a", "b"]
    with pytest.raises(DataError, match=r"t\.parquet: has no `body`; found `text`, `label`"):
        read_rows(tmp_path / "t.parquet", "body", None)


def test_joined_files_keep_their_places(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text(f"one {name}\ntwo {name}\n")
    rows = joined_rows([read_rows(tmp_path / f"{name}.txt", "text", None) for name in ("a", "b")])
    assert rows.texts.tolist() == ["one a", "two a", "one b", "two b"]
    assert rows.place(3) == f"{tmp_path / 'b.txt'}:2"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "text,label\na\n", r"t\.csv:2: has 1 fields, but the header names 2"),
        ("t.csv", "text,label\na,x\n,y\n", r"t\.csv:3: the text is empty"),
        ("t.csv", "text,label\na,x\n\u200b,y\n", r"t\.csv:3: the text is empty"),
        ("t.csv", "txt,label\na,x\n", r"t\.csv:1: has no `text`; did you mean `txt`\?"),
        ("t.csv", "text,label\n", r"t\.csv: has no texts"),
        ("t.csv", 'text,label\na,x\n"b,x\nc,x\n', r"t\.csv:3: cannot be read as CSV from here on .*close the quotes"),
        ("t.csv", "", r"t\.csv: is empty; its first line must name its columns"),
        ("t.csv", "text;label\na;x\n", r"t\.csv:1: is one field, `text;label`, .* by semicolons, and not by commas"),
        ("t.tsv", "text,label\na,x\n", r"t\.tsv:1: is one field, `text,label`, .* by commas, and not by tabs"),
        ("t.csv", "text,label,label\na,x,y\n", r"t\.csv:1: names `label` 2 times"),
        ("t.jsonl", '{"text": "a", "label": 1}\n{"text"\n', r"t\.jsonl:2: is not JSON .*, at character \d+"),
        ("t.jsonl", '{"text": "a"}\n', r"t\.jsonl:1: has no `label`"),
        ("t.jsonl", '{"text": null, "label": 1}\n', r"t\.jsonl:1: the text is nothing"),
        ("t.jsonl", '{"text": "a", "label": 1}\n{"text": "b\\ud800", "label": 1}\n', rf"t\.jsonl:2: the text {HALF}"),
        ("t.jsonl", "[1]\n", r"t\.jsonl:1: must be an object"),
        ("t.parquet", "no parquet", r"cannot be read as a Parquet file"),
        ("t.txt", "a\n", "lines of text have no `label`"),
        ("t.doc", "a", "is no file of texts that is known"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path, name, content, message):
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_rows(tmp_path / name, "text", "label")


def test_a_whole_pair_of_surrogates_is_a_letter_and_half_of_one_is_told_by_either_reader(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text('{"text": "\\ud83d\\ude00"}\n')
    assert read_rows(path, "text", None).texts.tolist() == ["\U0001f600"] == list(each_text(path, "text"))
    path.write_text('{"text": "a"}\n{"text": "\\ud800"}\n')
    for read in (lambda: read_rows(path, "text", None), lambda: list(each_text(path, "text"))):
        with pytest.raises(DataError, match=rf"t\.jsonl:2: the text {HALF}"):
            read()


def test_other_encodings_are_refused(tmp_path):
    """Behind a block of a few thousand bytes too, where the reader's own count begins anew."""
    (tmp_path / "t.csv").write_bytes(("text,label\n" + "fine,x\n" * 3000 + "sch\xf6n,x\n").encode("latin-1"))
    with pytest.raises(DataError, match=r"t\.csv:3002: is not UTF-8 .*save the file as UTF-8"):
        read_rows(tmp_path / "t.csv", "text", "label")
    (tmp_path / "t.jsonl").write_text('{"text": "a", "label": "x"}\n', encoding="utf-16")
    with pytest.raises(DataError, match=r"t\.jsonl:1: is not UTF-8"):
        read_rows(tmp_path / "t.jsonl", "text", "label")


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(DataError, match=r"none\.jsonl: there is no such file"):
        read_rows(tmp_path / "none.jsonl", "text", None)


def test_ids_of_texts_are_of_their_bytes():
    """Nothing is stripped or normalised, and neighbours do not run into each other."""
    ids = ids_of(sample_hashes(as_texts(["a", "a ", "A", "ä", "a", "bc", "b", "c"])))
    assert len(set(ids.tolist())) == 7
    assert ids[0] == ids[4]
    assert ids[0] == ids_of(sample_hashes(as_texts(["x", "a"])))[1]


def test_json_escapes_are_read(tmp_path):
    (tmp_path / "t.jsonl").write_text(json.dumps({"text": "ü\n"}) + "\n")
    assert read_rows(tmp_path / "t.jsonl", "text", None).texts.tolist() == ["ü\n"]
