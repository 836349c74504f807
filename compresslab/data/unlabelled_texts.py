"""Texts alone, of one file or several: in memory, or in the store where they are many."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from compresslab.data.hf_saved import is_saved
from compresslab.data.stored_texts import read_texts, write_texts
from compresslab.data.text_rows import each_text, joined_rows, read_rows
from compresslab.digest import code_digest, digest_file, digest_of
from compresslab.errors import DataError, StoreError

if TYPE_CHECKING:
    from compresslab.measure.text_preprocessing import Texts
    from compresslab.store import Store

_KIND = "texts"
_CODE = ("compresslab.data.text_rows", "compresslab.data.stored_texts")
_IN_MEMORY = 1 << 25
"""Bytes of files whose texts are kept in memory: as Python's strings they take some times as much."""


def unlabelled_texts(files: Sequence[tuple[Path, str]], store: Store | None = None) -> Texts:
    """The texts of all files, one after the other.

    Args:
        files: Each as `read_rows` takes it, with the column of its texts.
        store: Where many texts are kept, so that only those are in memory that are looked at; None for all in memory.

    Raises:
        DataError: A file is missing or broken, has no such column, or a row has no text.
        StoreError: The disk is full or may not be written.
    """
    there = [path for path, _ in files for path in _contents(path)]
    if store is None or sum(path.stat().st_size for path in there) <= _IN_MEMORY:
        return joined_rows([read_rows(path, column, None) for path, column in files]).texts
    key = digest_of({"files": [_identity(*one) for one in files], "code": code_digest(*_CODE)})
    folder = store.find(_KIND, key)
    if folder is None:
        with store.writing(_KIND, key) as being_made:
            write_texts(being_made, (text for path, column in files for text in each_text(path, column)))
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
