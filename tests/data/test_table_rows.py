"""Rows of tables of every kind, as those who read texts and pairs of them get them."""

import json

import pytest

from compresslab.data import table_rows
from compresslab.errors import DataError

ROWS = [{"a": str(number), "b": number % 3, "c": "x"} for number in range(7)]


def no_column(place, column, found):
    return DataError(f"{place}: no {column} among {list(found)}")


@pytest.fixture(params=[".csv", ".tsv", ".jsonl", ".parquet"])
def table(request, tmp_path):
    path = tmp_path / f"t{request.param}"
    if request.param == ".jsonl":
        path.write_text("\n".join(json.dumps(row) for row in ROWS))
    elif request.param == ".parquet":
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
    else:
        separator = "," if request.param == ".csv" else "\t"
        path.write_text("\n".join(separator.join(map(str, row)) for row in [ROWS[0], *(row.values() for row in ROWS)]))
    return path


def test_every_row_has_its_number_and_its_fields(table, monkeypatch) -> None:
    """Also where a Parquet file comes in several parts, whose rows are numbered on."""
    monkeypatch.setattr(table_rows, "_AT_ONCE", 3)
    found = list(table_rows.table_rows(table, ["a", "b"], no_column, beside=()))
    assert [(fields["a"], int(fields["b"])) for _, fields in found] == [(row["a"], row["b"]) for row in ROWS]
    first = {".csv": 2, ".tsv": 2, ".jsonl": 1, ".parquet": 0}[table.suffix]
    assert [number for number, _ in found] == list(range(first, first + len(ROWS)))
    place = table_rows.row_place(table, first)
    assert place == (f"{table}, row 0" if table.suffix == ".parquet" else f"{table}:{first}")


def test_a_missing_column_is_told_by_who_asked(table) -> None:
    with pytest.raises(DataError, match=r"no d among \['a', 'b', 'c'\]"):
        list(table_rows.table_rows(table, ["a", "d"], no_column))


def test_a_parquet_file_without_the_library_is_told_with_what_to_install(tmp_path, monkeypatch) -> None:
    (tmp_path / "t.parquet").write_bytes(b"")
    monkeypatch.setattr(table_rows, "find_spec", lambda _: None)
    with pytest.raises(DataError, match=r"needs the library `pyarrow` \(pip install compresslab\[data\]\)"):
        list(table_rows.table_rows(tmp_path / "t.parquet", ["a"], no_column))
