"""Rows of different lengths as one flat array and where each starts: in memory, or on disk and memory-mapped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from pathlib import Path

_VALUES, _STARTS = "values.npy", "starts.npy"
_AT_ONCE = 4096


@dataclass(frozen=True)
class Ragged:
    """n rows one after the other: those of row i are `values[starts[i]:starts[i + 1]]`.

    Args:
        values: Of all rows; whole numbers of any type.
        starts: int64 [n + 1], the first 0 and the last how many values there are.
    """

    values: npt.NDArray[np.integer[Any]]
    starts: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Values of each row [n]."""
        return np.diff(self.starts)

    def __iter__(self) -> Iterator[npt.NDArray[np.integer[Any]]]:
        for start in range(0, len(self), _AT_ONCE):
            yield from self.rows(np.arange(start, min(start + _AT_ONCE, len(self))))

    def rows(self, indices: npt.NDArray[np.int64]) -> list[npt.NDArray[np.integer[Any]]]:
        """Some of the rows."""
        return [self.values[self.starts[row] : self.starts[row + 1]] for row in indices]


def read_ragged(folder: Path) -> Ragged:
    """What `writing_ragged` left in a folder, memory-mapped."""
    return Ragged(read_mapped(folder / _VALUES), read_mapped(folder / _STARTS))


def read_mapped(path: Path) -> npt.NDArray[Any]:
    """An .npy file, memory-mapped and read-only."""
    # As a plain array: taking a slice of numpy's own class of mapped ones costs many times as much.
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))


class RaggedWriter:
    """Writes rows one after the other, without holding those that are written."""

    def __init__(self, values: Growing, starts: Growing) -> None:
        self._values, self._starts = values, starts
        self._end = 0
        starts.add(np.zeros(1, np.int64))

    def add(self, values: npt.NDArray[np.integer[Any]], lengths: npt.NDArray[np.int64]) -> None:
        """The next rows: their values one after the other, and how many each has [m]."""
        self._values.add(values)
        self._starts.add(self._end + np.cumsum(lengths))
        self._end += len(values)


@contextmanager
def writing_ragged(folder: Path, dtype: npt.DTypeLike) -> Iterator[RaggedWriter]:
    """Rows of this type into a folder that exists; they are there, for `read_ragged`, when the block has ended."""
    with ExitStack() as stack:
        values = stack.enter_context(growing(folder / _VALUES, dtype))
        yield RaggedWriter(values, stack.enter_context(growing(folder / _STARTS, np.int64)))


class Growing:
    """An .npy file whose first axis grows; `shape` is that of one of its entries."""

    def __init__(self, file: BinaryIO, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> None:
        self._file, self._dtype, self._shape = file, np.dtype(dtype), shape
        self._count = 0
        self.head()

    def add(self, block: npt.NDArray[Any]) -> None:
        """The next entries [m, ...]."""
        # Plain writes: a memory-mapped file does not say that the disk is full.
        self._file.write(np.ascontiguousarray(block, self._dtype).data)
        self._count += len(block)

    def head(self) -> None:
        """Writes how many there are; numpy leaves room in the header for any number."""
        self._file.seek(0)
        header = {"descr": self._dtype.str, "fortran_order": False, "shape": (self._count, *self._shape)}
        np.lib.format.write_array_header_1_0(self._file, header)


@contextmanager
def growing(path: Path, dtype: npt.DTypeLike, shape: tuple[int, ...] = ()) -> Iterator[Growing]:
    """An .npy file that is whole when the block has ended; `shape` is that of one entry."""
    with path.open("wb") as file:
        made = Growing(file, dtype, shape)
        yield made
        made.head()
