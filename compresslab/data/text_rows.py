"""Texts with what belongs to each, as some file has them: read, told apart, and checked with the line that is wrong."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from compresslab.data import table_rows as tables
from compresslab.data.hf_saved import is_saved, saved_tables
from compresslab.errors import DataError, did_you_mean
from compresslab.measure.text_preprocessing import Texts, as_texts

_AT_ONCE = 256

FORMATS = (*tables.FORMATS, ".txt")
"""Of files, by the end of their name; a folder that `datasets` saved is read as well."""


@dataclass(frozen=True)
class TextRows:
    """Texts of one place, in its order.

    Args:
        texts: Strings [n], none of them empty.
        values: What belongs to each, as it stands there; None where only texts were asked for.
        place: Says where a row is: file and line.
        names: Names of the classes that the values are numbers of, where the place tells them.
    """

    texts: Texts
    values: Sequence[Any] | None
    place: Callable[[int], str]
    names: tuple[str, ...] | None = None


def returned_texts(where: str, given: Any) -> Texts:
    """Strings [n] that a function of the user's returned, in its order.

    Raises:
        DataError: There are none, or one is no text, empty, or not to be written as UTF-8; its row is named.
    """
    texts = given.tolist() if isinstance(given, np.ndarray) else list(given)
    if not texts:
        raise DataError(f"{where}: there are no texts")
    for row, text in enumerate(texts):
        if not isinstance(text, str) or tables.blank(text):
            raise DataError(f"{where}, row {row}: must be a text that is not empty, but is {text!r}; leave it out")
        tables.require_letters(f"{where}, row {row}: the text", text)
    return as_texts(texts)


def read_rows(path: Path, text: str, value: str | None) -> TextRows:
    """The texts of a file: .csv, .tsv, .jsonl, .parquet, .txt with a text a line, or a folder that `datasets` saved.

    Args:
        path: The file or folder; a DatasetDict's splits one after the other.
        text: The column, or the key, of the texts.
        value: That of what belongs to each; None for the texts alone.

    Raises:
        DataError: It is missing, broken, of another kind, has no such column, or a row has no text.
    """
    if is_saved(path):
        parts = [rows_of_table(f"{path} ({name})", table, text, value) for name, table in saved_tables(path).items()]
        return joined_rows(parts)
    texts, values, numbers = [], [], []
    for number, one, beside in _numbered(path, text, value):
        texts.append(one)
        values.append(beside)
        numbers.append(number)
    return _rows(path, texts, None if value is None else values, numbers)


def each_text(path: Path, text: str) -> Iterator[str]:
    """The texts alone that `read_rows` reads, one after the other, without holding those before.

    Raises:
        DataError: As `read_rows`, when it comes to the row.
    """
    found = _of_saved(path, text) if is_saved(path) else _of_file(path, text)
    empty = True
    for one in found:
        empty = False
        yield one
    if empty:
        raise DataError(f"{path}: has no texts")


def _of_saved(path: Path, text: str) -> Iterator[str]:
    for name, table in saved_tables(path).items():
        yield from each_of_table(f"{path} ({name})", table, text)


def each_of_table(where: str, table: Any, text: str) -> Iterator[str]:
    """The texts alone that `rows_of_table` reads, as `each_text`."""
    _require_columns(where, table, [text])
    parts = table.select_columns([text]).with_format(None).iter(_AT_ONCE)
    for row, one in enumerate(one for part in parts for one in part[text]):
        yield _text(one, _place_in(where), row)


def _of_file(path: Path, text: str) -> Iterator[str]:
    for number, one, _ in _numbered(path, text, None):
        yield _text(one, partial(tables.row_place, path), number)


def valued(path: Path, texts: Texts, value: str) -> TextRows:
    """The texts of a file with what belongs to each: as `read_rows`, where the texts were read by `each_text`.

    Raises:
        DataError: There is no such column, or the file has changed meanwhile.
    """
    values, numbers = [], array("q")
    for number, one, _ in _numbered(path, value, None):
        values.append(one)
        numbers.append(number)
    if len(values) != len(texts):
        raise DataError(f"{path}: was changed while it was read; run again")
    return TextRows(texts, values, lambda row: tables.row_place(path, numbers[row]))


def _numbered(path: Path, text: str, value: str | None) -> Iterator[tuple[int, Any, Any]]:
    """Each row of a file: its number, its text and its value, as they stand there."""
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise DataError(
            f"{path}: is no file of texts that is known; give one that ends in {', '.join(FORMATS)}, or a folder that "
            "`save_to_disk` of `datasets` wrote"
        )
    if suffix == ".txt":
        if not path.is_file():
            raise DataError(f"{path}: there is no such file")
        if value is not None:
            raise DataError(f"{path}: lines of text have no `{value}`; give a .csv, .jsonl or .parquet file")
        for number, line in tables.numbered_lines(path):
            if line.strip():
                yield number, line, None
        return
    needed = [text] if value is None else [text, value]
    for number, fields in tables.table_rows(path, needed, _no_column, beside=()):
        yield number, fields[text], None if value is None else fields[value]


def rows_of_table(where: str, table: Any, text: str, value: str | None, texts: Texts | None = None) -> TextRows:
    """The rows of a Dataset of the library `datasets`; of a column of ClassLabels with their names.

    Args:
        where: What to call it in errors.
        table: The Dataset.
        text: The column of the texts.
        value: That of what belongs to each; None for the texts alone.
        texts: Where they were read by `each_of_table`.

    Raises:
        DataError: A column is missing, or a row has no text.
    """
    from datasets import ClassLabel

    features = table.features
    _require_columns(where, table, [text] if value is None else [text, value])
    plain = table.with_format(None)
    names = None
    if value is not None and isinstance(features[value], ClassLabel):
        names = tuple(str(name) for name in features[value].names)
    place = _place_in(where)
    values = None if value is None else list(plain[value])
    return TextRows(_checked(list(plain[text]), place) if texts is None else texts, values, place, names)


def joined_rows(parts: Sequence[TextRows]) -> TextRows:
    """The rows of all, one after the other."""
    if len(parts) == 1:
        return parts[0]
    ends = [0]
    for part in parts:
        ends.append(ends[-1] + len(part.texts))

    def place(row: int) -> str:
        number = next(number for number, end in enumerate(ends[1:]) if row < end)
        return parts[number].place(row - ends[number])

    values: list[Any] | None = []
    for part in parts:
        values = None if values is None or part.values is None else [*values, *part.values]
    return TextRows(as_texts([text for part in parts for text in part.texts]), values, place, parts[0].names)


def _rows(path: Path, texts: list[Any], values: list[Any] | None, numbers: list[int]) -> TextRows:
    def place(row: int) -> str:
        return tables.row_place(path, numbers[row])

    if not texts:
        raise DataError(f"{path}: has no texts")
    return TextRows(_checked(texts, place), values, place)


def _require_columns(where: str, table: Any, columns: Sequence[str]) -> None:
    for column in columns:
        if column not in table.features:
            raise _no_column(where, column, list(table.features))


def _checked(texts: list[Any], place: Callable[[int], str]) -> Texts:
    for row, text in enumerate(texts):
        if not isinstance(text, str) or tables.blank(text):
            empty = sum(1 for one in texts if isinstance(one, str) and tables.blank(one))
            _text(text, place, row, f" ({empty} texts are)" if empty > 1 else "")
        elif not text.isascii():
            _text(text, place, row)
    return as_texts(texts)


def _text(value: Any, place: Callable[[int], str], row: int, more: str = "") -> str:
    if not isinstance(value, str):
        found = "nothing" if value is None else f"a {type(value).__name__}"
        raise DataError(f"{place(row)}: the text is {found}; give a string, or leave the row out")
    tables.require_letters(f"{place(row)}: the text", value, "the row")
    if tables.blank(value):
        raise DataError(f"{place(row)}: the text is empty{more}; leave such rows out")
    return value


def _place_in(where: str) -> Callable[[int], str]:
    return lambda row: f"{where}, row {row}"


def _no_column(where: str, column: str, found: Sequence[str]) -> DataError:
    there = ", ".join(f"`{one}`" for one in found) or "nothing"
    return DataError(
        f"{where}: has no `{column}`{did_you_mean(column, found)}; found {there}; name the right one by `text`, or by "
        "`label` or `target`, in the task, or in a command as `--column text=NAME`"
    )
