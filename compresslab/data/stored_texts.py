"""Texts on disk, for more of them than memory holds: written once into the store, and read where they are needed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from compresslab.data.ragged import Ragged, growing, read_mapped, read_ragged, writing_ragged
from compresslab.measure.text_preprocessing import as_texts, portions

if TYPE_CHECKING:
    from pathlib import Path

    from compresslab.data.identity import Hashes
    from compresslab.measure.text_preprocessing import Texts

_HASHES = "hashes.npy"
_AT_ONCE = 4096


class StoredTexts:
    """Reads as an array of strings [n] does; some of it are the same texts on disk, and one of it is a string.

    Args:
        content: The UTF-8 of each text in the file.
        hashes: SHA-256 of each, uint8 [m, 32].
        chosen: Which of them these are [n]; None for all.
    """

    dtype = np.dtypes.StringDType()
    ndim = 1

    def __init__(self, content: Ragged, hashes: Hashes, chosen: npt.NDArray[np.int64] | None = None) -> None:
        self._content, self._all_hashes, self._chosen = content, hashes, chosen
        self._bytes = memoryview(content.values)  # type: ignore[arg-type]  # numpy's arrays are buffers

    def __len__(self) -> int:
        return len(self._content) if self._chosen is None else len(self._chosen)

    @property
    def shape(self) -> tuple[int]:
        """How many there are."""
        return (len(self),)

    @property
    def hashes(self) -> Hashes:
        """SHA-256 of each text's UTF-8, uint8 [n, 32]."""
        return self._all_hashes if self._chosen is None else self._all_hashes[self._chosen]

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), _AT_ONCE):
            rows = self._rows(slice(start, start + _AT_ONCE))
            ends = zip(self._content.starts[rows].tolist(), self._content.starts[rows + 1].tolist(), strict=True)
            for first, last in ends:
                yield str(self._bytes[first:last], "utf-8")

    def __getitem__(self, key: Any) -> Any:
        """A string for a whole number; for anything else by which numpy takes from one axis, those texts, on disk."""
        if isinstance(key, int | np.integer):
            row = range(len(self))[key]
            row = row if self._chosen is None else int(self._chosen[row])
            return str(self._bytes[self._content.starts[row] : self._content.starts[row + 1]], "utf-8")
        return StoredTexts(self._content, self._all_hashes, self._rows(key))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Texts:
        """All of them in memory."""
        if dtype not in (None, self.dtype) or copy is False:
            raise ValueError("texts on disk become strings in memory, and nothing else")
        return as_texts(self)

    def tolist(self) -> list[str]:
        """All of them in memory."""
        return list(self)

    def _rows(self, key: Any) -> npt.NDArray[np.int64]:
        if self._chosen is None and isinstance(key, slice):
            return np.arange(*key.indices(len(self)))
        chosen: npt.NDArray[np.int64] = (np.arange(len(self)) if self._chosen is None else self._chosen)[key]
        return chosen


def write_texts(folder: Path, texts: Iterable[str]) -> None:
    """Texts into a folder that exists, without holding those that are written."""
    with writing_ragged(folder, np.uint8) as content, growing(folder / _HASHES, np.uint8, (32,)) as hashes:
        for some in portions(texts):
            part = [text.encode() for text in some]
            content.add(np.frombuffer(b"".join(part), np.uint8), np.array([len(one) for one in part], np.int64))
            digests = b"".join(sha256(one).digest() for one in part)
            hashes.add(np.frombuffer(digests, np.uint8).reshape(-1, 32))


def read_texts(folder: Path) -> Texts:
    """What `write_texts` left in a folder, on disk still."""
    # It stands in for an array of strings wherever samples are taken by row, counted or walked through.
    return cast("Texts", StoredTexts(read_ragged(folder), read_mapped(folder / _HASHES)))
