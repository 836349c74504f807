"""Fashion-MNIST (Xiao, Rasul and Vollgraf, arXiv 1708.07747): found on this machine, or fetched once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from compresslab.data.arrays import Source, source_from
from compresslab.data.debian import unpack_debian_package
from compresslab.data.hub_fetch import REPOSITORY
from compresslab.data.idx import read_idx
from compresslab.errors import DataError
from compresslab.settings import FilePath, Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LABELS = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip

VARIABLE = "COMPRESSLAB_DATA"
FOLDER = "fashion-mnist"
PACKAGE = "dataset-fashion-mnist"
PACKAGE_FOLDER = Path("/usr/share/datasets") / FOLDER
HUB_TIMEOUT_S = 300.0

_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


class FashionMnist(Settings):
    """60,000 training and 10,000 test images, grey, 28 x 28, in ten classes."""

    root: FilePath | None = None
    """The folder with the four idx files, gzip-compressed or not. Null looks in `$COMPRESSLAB_DATA`, the folder of
    Debian's package, and the cache, and fetches into the cache what is not found."""

    def load(self, cache: Path) -> Source:
        """Reads it from the first place that has it.

        Args:
            cache: Folder for what is fetched; made when needed.

        Raises:
            DataError: No place has it (each is told, with its reason), or the first that has it is damaged.
        """
        if self.root is not None:
            return read_folder(Path(self.root))
        tried = []
        for place, find in _places(cache):
            try:
                return find()
            except DataError as error:
                tried.append(f"  {place}: {error}")
        raise DataError(
            "Fashion-MNIST was not found and cannot be fetched. Tried:\n"
            + "\n".join(tried)
            + f"\nGet the four files {_FILES[0]}.gz, ... (https://github.com/zalandoresearch/fashion-mnist), put them "
            f"in a folder, and name it in `fashion_mnist: {{root: FOLDER}}` or ${VARIABLE}"
        )


def read_folder(folder: Path) -> Source:
    """Reads the four idx files of a folder.

    Raises:
        DataError: One is missing or damaged.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder")
    arrays = [read_idx(_file(folder, name), 3 if "images" in name else 1) for name in _FILES]
    parts = dict(zip(("images", "labels", "test_images", "test_labels"), arrays, strict=True))
    return source_from(str(folder), "fashion_mnist", {**parts, "label_names": LABELS})


def _file(folder: Path, name: str) -> Path:
    packed = folder / f"{name}.gz"
    plain = folder / name
    if not packed.is_file() and not plain.is_file():
        raise DataError(f"{folder}: has no {name}.gz")
    return packed if packed.is_file() else plain


def _places(cache: Path) -> Iterator[tuple[str, Callable[[], Source]]]:
    """Where it may be, the cheapest first."""
    yield f"${VARIABLE}", _from_variable
    yield f"Debian's package {PACKAGE}, installed", lambda: read_folder(PACKAGE_FOLDER)
    yield "the cache", lambda: read_folder(cache / FOLDER)
    yield f"Debian's package {PACKAGE}, fetched", lambda: _fetched(cache, _from_debian)
    yield f"the Hugging Face hub, {REPOSITORY}", lambda: _fetched(cache, _from_hub)


def _from_variable() -> Source:
    value = os.environ.get(VARIABLE)
    if not value:
        raise DataError("is not set")
    inner = Path(value) / FOLDER
    return read_folder(inner if inner.is_dir() else Path(value))


def _fetched(cache: Path, fetch: Callable[[Path], Path]) -> Source:
    """Fetches beside the cached copy and moves it there whole, so that a kill leaves nothing half done."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{FOLDER}-", dir=cache, ignore_cleanup_errors=True) as scratch:
            files = fetch(Path(scratch))
            source = read_folder(files)
            _move(files, cache / FOLDER, Path(scratch, "damaged"))
    except OSError as error:
        raise DataError(f"{cache}: cannot be written: {error}") from error
    return source


def _move(files: Path, place: Path, aside: Path) -> None:
    if place.exists():  # damaged, or it would have been read
        place.replace(aside)
    try:
        files.replace(place)
    except OSError:
        if not place.is_dir():  # else another process was faster, and its copy is as good
            raise


def _from_debian(scratch: Path) -> Path:
    return unpack_debian_package(PACKAGE, scratch) / PACKAGE_FOLDER.relative_to("/")


def _from_hub(scratch: Path) -> Path:
    if find_spec("datasets") is None:
        raise DataError("needs the library `datasets` (pip install datasets)")
    files = scratch / "files"
    files.mkdir()
    command = [sys.executable, "-m", "compresslab.data.hub_fetch", str(files)]
    try:
        subprocess.run(  # noqa: S603 - words of our own, no shell
            command, timeout=HUB_TIMEOUT_S, check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
    except subprocess.TimeoutExpired as error:
        raise DataError(f"took more than {HUB_TIMEOUT_S:.0f} s") from error
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines()
        raise DataError(lines[-1] if lines else f"ended with code {error.returncode}") from error
    shutil.rmtree(files / "hub", ignore_errors=True)
    return files
