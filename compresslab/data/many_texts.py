"""Texts of files, whatever belongs to them: in memory, or in the store where they are many."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from compresslab.data.hf_saved import is_saved, saved_by_split
from compresslab.data.stored_texts import read_texts, write_texts
from compresslab.data.text_rows import TextRows, each_of_table, each_text, joined_rows, read_rows, rows_of_table, valued
from compresslab.digest import code_digest, digest_file, digest_of
from compresslab.errors import StoreError

if TYPE_CHECKING:
    from compresslab.measure.text_preprocessing import Texts
    from compresslab.store import Store

_KIND = "texts"
_CODE = ("compresslab.data.text_rows", "compresslab.data.stored_texts")
_IN_MEMORY = 1 << 25
"""Bytes of files whose texts are kept in memory: as Python's strings they take some times as much."""


def texts_of_files(files: Sequence[tuple[Path, str]], store: Store | None = None) -> Texts:
    """The texts of all files, one after the other.

    Args:
        files: Each as `read_rows` takes it, with the column of its texts.
        store: Where many texts are kept, so that only those are in memory that are looked at; None for all in memory.

    Raises:
        DataError: A file is missing or broken, has no such column, or a row has no text.
        StoreError: The disk is full or may not be written.
    """
    if store is None or _fits([path for path, _ in files]):
        return joined_rows([read_rows(path, column, None) for path, column in files]).texts
    each = (text for path, column in files for text in each_text(path, column))
    return _kept(store, [_identity(*one) for one in files], each)


def rows_of_file(path: Path, text: str, value: str, store: Store | None) -> TextRows:
    """The texts of a file and what belongs to each, which is in memory in any case.

    Raises:
        DataError: As `read_rows`.
        StoreError: The disk is full or may not be written.
    """
    if store is None or _fits([path]):
        return read_rows(path, text, value)
    return valued(path, _kept(store, [_identity(path, text)], each_text(path, text)), value)


def rows_of_saved(folder: Path, text: str, value: str, store: Store | None) -> dict[str, TextRows]:
    """`train`, and perhaps `validation` and `test`, of a folder that `save_to_disk` of `datasets` wrote.

    Raises:
        DataError: The library or the folder is missing, or has no such columns.
        StoreError: The disk is full or may not be written.
    """
    found = {}
    for name, table in saved_by_split(folder).items():
        where, texts = f"{folder} ({name})", None
        if store is not None and not _fits([folder]):
            texts = _kept(store, [_identity(folder, text), name], each_of_table(where, table, text))
        found[name] = rows_of_table(where, table, text, value, texts)
    return found


def _fits(paths: Sequence[Path]) -> bool:
    return sum(one.stat().st_size for path in paths for one in _contents(path)) <= _IN_MEMORY


def _kept(store: Store, identity: object, texts: Iterator[str]) -> Texts:
    key = digest_of({"texts": identity, "code": code_digest(*_CODE)})
    folder = store.find(_KIND, key)
    if folder is None:
        with store.writing(_KIND, key) as being_made:
            write_texts(being_made, texts)
        folder = store.find(_KIND, key)
    if folder is None:
        raise StoreError(f"{store.root}: what was written there a moment ago is gone; do not prune it while runs begin")
    return read_texts(folder)


def _identity(path: Path, column: str) -> list[object]:
    """What the texts of a file follow from, wherever it lies."""
    inside = [[one.relative_to(path).as_posix(), digest_file(one)] for one in _contents(path)]
    return [path.suffix.lower(), column, inside]


def _contents(path: Path) -> list[Path]:
    """The files that a path stands for."""
    if is_saved(path):
        return sorted(one for one in path.rglob("*") if one.is_file())
    return [path] if path.is_file() else []
