"""Rows of tables, .csv, .tsv, .jsonl and .parquet, one after the other, each with the line or row it is on."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compresslab.errors import DataError

if TYPE_CHECKING:
    from io import TextIOWrapper

FORMATS = (".csv", ".tsv", ".jsonl", ".parquet")

NoColumn = Callable[[str, str, Sequence[str]], DataError]
"""(where, the column that is missing, those that are there) -> what to say of it."""

_LARGEST_FIELD = 1 << 30
_SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
_AT_ONCE = 4096


def table_rows(
    path: Path, needed: Sequence[str], no_column: NoColumn, beside: Sequence[str] | None = None
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Each row's number, as `row_place` takes it, and its fields by column.

    Args:
        path: The file; its ending is one of `FORMATS`.
        needed: Columns that must be there: in a .jsonl file in every row.
        no_column: What to say where one is not.
        beside: Columns that are read as well where they are; None for all that there are.

    Raises:
        DataError: The file is missing, broken or not UTF-8, or has no such column.
    """
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        yield from _parquet(path, needed, no_column, beside)
    elif suffix == ".jsonl":
        yield from _jsonl(path, needed, no_column)
    else:
        yield from _csv(path, needed, no_column)


def row_place(path: Path, number: int) -> str:
    """Where a row is, for an error: file and line, or of a Parquet file the row from 0."""
    return f"{path}, row {number}" if path.suffix.lower() == ".parquet" else f"{path}:{number}"


def blank(text: str) -> bool:
    """Whether nothing of it can be seen: blanks, signs of no width, and control characters alone."""
    return not any(letter.isprintable() and not letter.isspace() for letter in text)


def require_letters(what: str, text: str, out: str = "it") -> None:
    """Refuses a text with half of a surrogate pair in it, which JSON can spell, and UTF-8 cannot.

    Args:
        what: Is refused, and where it stands.
        text: To be looked at.
        out: What could be left out.

    Raises:
        DataError: It has one.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{what} has {text[error.start]!a}, half of a surrogate pair, which is no letter; write the letter whole, "
            f"or leave {out} out"
        ) from error


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text file, numbered from 1, without what ends them.

    Raises:
        DataError: It cannot be read, or is not UTF-8.
    """
    with _opened(path) as file:
        try:
            for number, line in enumerate(file, 1):
                yield number, line.rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise _not_utf8(path) from error


def _require(place: str, needed: Sequence[str], found: Sequence[str], no_column: NoColumn) -> None:
    for column in needed:
        if column not in found:
            raise no_column(place, column, found)
        if found.count(column) > 1:
            raise DataError(
                f"{place}: names `{column}` {found.count(column)} times; rename all but the one that is meant"
            )


def _require_header(path: Path, header: list[str], separator: str) -> None:
    """Refuses a file that is empty, or whose fields stand apart by another sign than its name says."""
    if not header:
        raise DataError(f"{path}: is empty; its first line must name its columns")
    others = [sign for sign in _SEPARATORS if sign != separator and sign in header[0]]
    if len(header) == 1 and others:
        raise DataError(
            f"{path}:1: is one field, `{header[0][:60]}`, whose parts stand apart by {_SEPARATORS[others[0]]}, and not "
            f"by {_SEPARATORS[separator]}; write it with commas as .csv, or with tabs as .tsv"
        )


def _csv(path: Path, needed: Sequence[str], no_column: NoColumn) -> Iterator[tuple[int, Mapping[str, Any]]]:
    csv.field_size_limit(_LARGEST_FIELD)
    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    with _opened(path) as file:
        reader = csv.reader(file, delimiter=separator, strict=True)
        line = 1
        try:
            header = next(reader, [])
            _require_header(path, header, separator)
            _require(f"{path}:1", needed, header, no_column)
            line = reader.line_num + 1
            for fields in reader:
                if fields and len(fields) != len(header):
                    raise DataError(
                        f"{path}:{line}: has {len(fields)} fields, but the header names {len(header)}; put quotes "
                        "around a text with a separator in it"
                    )
                if fields:
                    yield line, dict(zip(header, fields, strict=True))
                line = reader.line_num + 1
        except csv.Error as error:
            raise DataError(
                f"{path}:{line}: cannot be read as CSV from here on ({error}); close the quotes of this row, and "
                "double those inside a text"
            ) from error
        except UnicodeDecodeError as error:
            raise _not_utf8(path) from error


def _jsonl(path: Path, needed: Sequence[str], no_column: NoColumn) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in numbered_lines(path):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(
                f"{path}:{number}: is not JSON ({error.msg}, at character {error.colno}); give one object a line"
            ) from error
        if not isinstance(found, dict):
            example = ", ".join(f'"{column}": ...' for column in needed or ("text",))
            raise DataError(f"{path}:{number}: must be an object such as {{{example}}}, but is {line[:40]}")
        _require(f"{path}:{number}", needed, list(found), no_column)
        yield number, found


def _parquet(
    path: Path, needed: Sequence[str], no_column: NoColumn, beside: Sequence[str] | None
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    if find_spec("pyarrow") is None:
        raise DataError(f"{path}: reading it needs the library `pyarrow` (pip install compresslab[data])")
    import pyarrow
    from pyarrow import parquet

    try:
        opened = parquet.ParquetFile(path)
        names = opened.schema_arrow.names
        _require(str(path), needed, names, no_column)
        wanted = None if beside is None else [*needed, *(name for name in beside if name in names)]
        number = 0
        for batch in opened.iter_batches(_AT_ONCE, columns=wanted):
            for row in batch.to_pylist():
                yield number, row
                number += 1
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path}: cannot be read as a Parquet file: {error}; write it again") from error


def _opened(path: Path) -> TextIOWrapper:
    try:
        return path.open(encoding="utf-8-sig", newline="" if path.suffix.lower() in (".csv", ".tsv") else "\n")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def _not_utf8(path: Path) -> DataError:
    """With the line, which a reader of blocks does not know."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return DataError(f"{path}:{number}: is not UTF-8 ({error.reason}); save the file as UTF-8")
    return DataError(f"{path}: is not UTF-8; save it as UTF-8")
