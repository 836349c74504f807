"""The idx format of MNIST and its kin: a magic number, the sizes, then the bytes."""

from __future__ import annotations

import gzip
import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from compresslab.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

_UINT8 = 0x08


def read_idx(path: Path, dimensions: int) -> npt.NDArray[np.uint8]:
    """The array of an idx file of unsigned bytes, gzip-compressed if its name ends in .gz.

    Raises:
        DataError: The file is missing, truncated, too long, or something else.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}); it is truncated or damaged, get it again") from error
    header = 4 * (1 + dimensions)
    if len(data) < header:
        raise DataError(f"{path}: {len(data)} bytes are less than an idx header ({header}); it is truncated")
    magic, *shape = struct.unpack(f">{1 + dimensions}I", data[:header])
    wanted = _UINT8 << 8 | dimensions
    if magic != wanted:
        raise DataError(
            f"{path}: magic number {magic:#010x} instead of {wanted:#010x} (unsigned bytes, {dimensions} dimensions)"
        )
    size = int(np.prod(shape, dtype=object))
    if len(data) - header != size:
        state = "truncated" if len(data) - header < size else "longer than it says"
        raise DataError(f"{path}: is {state}: {len(data) - header} bytes, but shape {shape} needs {size}")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def write_idx(path: Path, array: npt.NDArray[np.uint8]) -> None:
    """Writes an array as an idx file, not compressed."""
    header = struct.pack(f">{1 + array.ndim}I", _UINT8 << 8 | array.ndim, *array.shape)
    path.write_bytes(header + np.ascontiguousarray(array, np.uint8).tobytes())
