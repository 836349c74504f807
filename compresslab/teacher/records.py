"""A teacher's answers on disk: one record of a fixed size for each sample, memory-mapped when read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp

from compresslab.errors import ModelError
from compresslab.teacher.answers import Cache

_VALUES, _CLASSES, _REST = "values.npy", "classes.npy", "rest.npy"
_SPOT_CHECKED = 16

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Records:
    """The stored answers of one output to one view.

    Args:
        values: [n, ...] as stored; with `top_k` the k largest logits [n, k], largest first.
        classes: With `top_k` the classes of these [n, k].
        rest: With `top_k` the logit of every other class [n].
        width: With `top_k` the number of classes.
    """

    values: npt.NDArray[np.floating]
    classes: npt.NDArray[np.integer] | None = None
    rest: npt.NDArray[np.floating] | None = None
    width: int = 0

    def __len__(self) -> int:
        return len(self.values)

    def of(self, rows: npt.NDArray[np.int64]) -> Floats:
        """The answers for some rows, float32 [b, ...]; all classes of them also where only some were kept."""
        values = np.asarray(self.values[rows], np.float32)
        if self.classes is None or self.rest is None:
            return values
        full = np.repeat(np.asarray(self.rest[rows], np.float32)[:, None], self.width, axis=1)
        np.put_along_axis(full, np.asarray(self.classes[rows], np.int64), values, axis=1)
        return full

    def distance(self, rows: npt.NDArray[np.int64], live: Floats) -> float:
        """How far what is stored for some rows is from live answers [b, ...], as a share of the largest of these.

        Where only some logits were kept these are compared; infinite for answers of another shape.
        """
        values = np.asarray(self.values[rows], np.float32)
        if self.classes is not None:
            live = np.take_along_axis(live, np.asarray(self.classes[rows], np.int64), axis=1)
        if live.shape != values.shape:
            return float("inf")
        return float(np.abs(live - values).max() / max(1.0, np.abs(live).max()))


def read(folder: Path, width: int) -> Records:
    """The records in a folder; `width` is how many classes there are."""
    values = np.load(folder / _VALUES, mmap_mode="r", allow_pickle=False)
    if not (folder / _CLASSES).exists():
        return Records(values)
    classes = np.load(folder / _CLASSES, mmap_mode="r", allow_pickle=False)
    rest = np.load(folder / _REST, mmap_mode="r", allow_pickle=False)
    return Records(values, classes, rest, width)


class Writer:
    """Writes records in the order of the split, block by block, without holding them all.

    Args:
        folder: Where to; it exists.
        samples: How many records there will be.
        cache: Their type, and whether only the largest logits are kept.
        logits: Whether these are logits, of which `cache.top_k` may keep a part; features are kept whole.
    """

    def __init__(self, folder: Path, samples: int, cache: Cache, *, logits: bool) -> None:
        self._folder = folder
        self._samples = samples
        self._dtype = np.dtype(cache.dtype)
        self._top_k = cache.top_k if logits else None

    def add(self, block: Floats) -> None:
        """The next records, float32 [b, ...].

        Raises:
            ModelError: They are too large for the type.
        """
        largest, limit = float(np.abs(block).max()), float(np.finfo(self._dtype).max)
        if largest > limit:
            raise ModelError(
                f"the teacher's answers are as large as {largest:.3g}, and {self._dtype} ends at {limit:.3g}; give "
                "`cache: {dtype: float32}`"
            )
        if self._top_k is None or self._top_k >= block.shape[1]:
            self._append(_VALUES, block.astype(self._dtype))
            return
        classes = np.argsort(-block, axis=1, kind="stable")[:, : self._top_k]
        self._append(_VALUES, np.take_along_axis(block, classes, axis=1).astype(self._dtype))
        self._append(_CLASSES, classes.astype(np.uint16 if block.shape[1] <= 1 << 16 else np.int32))
        self._append(_REST, _shared_rest(block, classes).astype(self._dtype))

    def _append(self, name: str, block: npt.NDArray[np.generic]) -> None:
        path = self._folder / name
        first = not path.exists()
        # Plain writes: a memory-mapped file does not say that the disk is full, and numpy's own saving hardly does.
        with path.open("ab") as file:
            if first:
                header = np.lib.format.header_data_from_array_1_0(block)
                header["shape"] = (self._samples, *block.shape[1:])
                header["fortran_order"] = False
                np.lib.format.write_array_header_1_0(file, header)
            file.write(np.ascontiguousarray(block).data)


def spot_checked(samples: int) -> npt.NDArray[np.int64]:
    """A few rows spread over a split, by which stored answers are held against the live teacher's."""
    return np.unique(np.linspace(0, samples - 1, _SPOT_CHECKED).astype(np.int64))


def _shared_rest(logits: Floats, kept: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """The one logit that gives all classes that are not kept [n, k] together the probability they had [n]."""
    # Summed by itself: what is left of 1 after the largest probabilities is mostly rounding.
    others = logits.astype(np.float64)
    np.put_along_axis(others, kept, -np.inf, axis=1)
    shared: npt.NDArray[np.float64] = logsumexp(others, axis=1) - np.log(logits.shape[1] - kept.shape[1])
    return shared
