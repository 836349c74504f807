"""Arrays in one .npz file, as numpy.savez writes it; images and labels among them."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import numpy as np

from compresslab.data.arrays import Source, source_from
from compresslab.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path


def load_npz(path: Path) -> Source:
    """The arrays `images` and `labels`, and those of `arrays.KEYS` that are there. Nothing pickled is read.

    Raises:
        DataError: The file is missing, damaged, or holds something else.
    """
    return source_from(str(path), path.stem, read_arrays(path))


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Every array of the file, by name.

    Raises:
        DataError: The file is missing, damaged, or holds Python objects.
    """
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    arrays = {}
    key = ""
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if not isinstance(loaded, np.lib.npyio.NpzFile):
                raise DataError(f"{path}: is a single array; write it with numpy.savez(path, name=array, ...)")
            for key in loaded.files:
                arrays[key] = loaded[key]
    except (ValueError, BadZipFile, EOFError, OSError, zlib.error, KeyError) as error:
        if "allow_pickle" in str(error):
            what = f"`{key}` holds Python objects" if key else "it is a pickle"
            raise DataError(
                f"{path}: {what}, which are not read, as that could run code; write plain arrays (names as "
                "numpy.array([...], dtype=str))"
            ) from error
        raise DataError(f"{path}: damaged or not an .npz file{f' (at `{key}`)' if key else ''}: {error}") from error
    return arrays
