"""Image files to pixels, decoded once into a memory-mapped array in the cache."""

from __future__ import annotations

import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from compresslab.digest import digest_of
from compresslab.errors import DataError
from compresslab.measure.preprocessing import Fit, ImagePreprocessing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from compresslab.data.arrays import Images

Encoded = str | Path | bytes
"""An image file: its path or its bytes."""

_GREY = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "F"})
_ORIENTATION = 0x0112
_LYING = frozenset({5, 6, 7, 8})
_CHUNK = 512
_IN_MEMORY = 1 << 30


@dataclass(frozen=True)
class Decoding:
    """How images become pixels. What is None follows the images: their common size; grey only if all are."""

    size: int | None = None
    channels: Literal[1, 3] | None = None
    resize: Literal["bilinear", "bicubic", "nearest"] = "bilinear"
    crop: float = 1.0
    fit: Fit = "stretch"

    def reader(self, height: int, width: int, channels: int) -> ImagePreprocessing:
        """Reads image files as uint8 [height, width, channels], by the code that also serves. It normalises nothing."""
        one = (1.0,) * channels
        return ImagePreprocessing(
            height=height, width=width, channels=3 if channels == 3 else 1, mean=(0.0,) * channels, std=one,
            resize=self.resize, crop=self.crop, fit=self.fit,
        )  # fmt: skip


@dataclass(frozen=True)
class Files:
    """Image files in order: how many, a part of them, what to call one, and a digest that changes when they do."""

    count: int
    part: Callable[[int, int], Sequence[Encoded]]
    name: Callable[[int], str]
    digest: str


def decode(files: Files, decoding: Decoding, cache: Path) -> Images:
    """All images, as a read-only memory-mapped uint8 [n, h, w, c]; from the cache if they were decoded before.

    Raises:
        DataError: One cannot be decoded, they differ in size and no `size` is given, or the cache cannot be written.
    """
    path = cache / "decoded" / f"{digest_of([files.digest, files.count, asdict(decoding)])}.npy"
    if not path.is_file():
        _decode_into(path, files, decoding)
    return _opened(path)


def refit(images: Images, decoding: Decoding, cache: Path) -> Images:
    """Images that are decoded already, brought to the wanted size and channels as a file of each would be."""
    _, height, width, channels = images.shape
    wanted = (decoding.size or height, decoding.size or width, decoding.channels or channels)
    if wanted == (height, width, channels) and decoding.crop == 1.0:
        return images
    files = Files(
        count=len(images),
        part=lambda start, stop: [_bitmap(image) for image in images[start:stop]],
        name=lambda index: f"sample {index}",
        digest=sha256(np.ascontiguousarray(images).data).hexdigest(),
    )
    return decode(files, decoding, cache)


def take(images: Images, rows: npt.NDArray[np.int64], cache: Path) -> Images:
    """`images[rows]`; of a large memory-mapped array, as another such, so that it need not fit into memory."""
    size = len(rows) * int(np.prod(images.shape[1:]))
    if not isinstance(images, np.memmap) or size <= _IN_MEMORY:
        return np.asarray(images[rows])
    path = cache / "decoded" / f"{digest_of([str(images.filename), sha256(rows.tobytes()).hexdigest()])}.npy"
    if not path.is_file():
        with _writing(path, (len(rows), *images.shape[1:])) as file:
            for start in range(0, len(rows), _CHUNK):
                file.write(images[rows[start : start + _CHUNK]].tobytes())
    return _opened(path)


def joined(parts: Sequence[Images], cache: Path) -> Images:
    """Images of one shape, one part after the other; where they are many, as a memory-mapped array."""
    if len(parts) == 1:
        return parts[0]
    size = sum(part.size for part in parts)
    if size <= _IN_MEMORY:
        return np.concatenate(parts)
    digests = [_content(part) for part in parts]
    path = cache / "decoded" / f"{digest_of(['joined', digests])}.npy"
    if not path.is_file():
        with _writing(path, (sum(map(len, parts)), *parts[0].shape[1:])) as file:
            for part in parts:
                for start in range(0, len(part), _CHUNK):
                    file.write(np.ascontiguousarray(part[start : start + _CHUNK]).data)
    return _opened(path)


def listing_digest(paths: Iterable[Path], root: Path) -> str:
    """Changes when a file is added, removed, renamed or written; reads none."""
    stats = ((path, path.stat()) for path in paths)
    return digest_of([str(root.resolve()), [[str(p.relative_to(root)), s.st_size, s.st_mtime_ns] for p, s in stats]])


def _content(images: Images) -> str:
    """Tells images apart; an array in the cache by the name of its file, which says what it is of."""
    return (
        str(images.filename) if isinstance(images, np.memmap) else sha256(np.ascontiguousarray(images).data).hexdigest()
    )


def _decode_into(path: Path, files: Files, decoding: Decoding) -> None:
    reader = decoding.reader(*_target(files, decoding))
    shape = (files.count, reader.height, reader.width, reader.channels)
    with _writing(path, shape) as file, ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, files.count, _CHUNK):
            encoded = files.part(start, min(start + _CHUNK, files.count))
            for index, image in enumerate(pool.map(_opener(reader), encoded), start):
                if isinstance(image, DataError):
                    # What is told of a file begins with its path, as its name ends.
                    told = str(image).removeprefix(f"{encoded[index - start]!s}: ")
                    raise DataError(f"{files.name(index)}: {told}")
                file.write(image.tobytes())


@contextmanager
def _writing(path: Path, shape: tuple[int, ...]) -> Iterator[BinaryIO]:
    """An open .npy file of this shape. It appears at `path` when the block ends without an error, or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=path.parent, ignore_cleanup_errors=True) as scratch:
            partial = Path(scratch, "pixels.npy")
            with partial.open("wb") as file:
                header = {"descr": "|u1", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
                yield file
            partial.replace(path)
    except OSError as error:
        raise DataError(f"{path.parent}: decoded images cannot be written there: {error}") from error


def _opened(path: Path) -> Images:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]
    except ValueError as error:
        raise DataError(f"{path}: is damaged ({error}); delete it, it will be made again") from error


def _bitmap(image: Images) -> bytes:
    file = BytesIO()
    Image.fromarray(image if image.shape[2] == 3 else image[..., 0]).save(file, "BMP")
    return file.getvalue()


def _opener(reader: ImagePreprocessing) -> Callable[[Encoded], Images | DataError]:
    def opened(source: Encoded) -> Images | DataError:
        try:
            return reader.open(source)
        except DataError as error:
            return error

    return opened


def _target(files: Files, decoding: Decoding) -> tuple[int, int, int]:
    """Height, width and channels, from the headers of the files where they are not given."""
    if decoding.size is not None and decoding.channels is not None:
        return decoding.size, decoding.size, decoding.channels
    first: tuple[int, int] | None = None
    grey = True
    for start in range(0, files.count, _CHUNK):
        for index, source in enumerate(files.part(start, min(start + _CHUNK, files.count)), start):
            size, is_grey = _header(source, files.name(index))
            grey = grey and is_grey
            first = first or size
            if decoding.size is None and size != first:
                raise DataError(
                    f"images differ in size: {files.name(0)} is {first[1]} x {first[0]}, {files.name(index)} is "
                    f"{size[1]} x {size[0]}; give `size`, to which all are resized"
                )
    assert first is not None, "there is at least one file"
    height, width = (decoding.size, decoding.size) if decoding.size is not None else first
    return height, width, decoding.channels or (1 if grey else 3)


def _header(source: Encoded, name: str) -> tuple[tuple[int, int], bool]:
    """(height, width) of the upright image, and whether it is grey; reads no pixels."""
    try:
        with Image.open(BytesIO(source) if isinstance(source, bytes) else source) as image:
            width, height = image.size
            if image.getexif().get(_ORIENTATION) in _LYING:
                width, height = height, width
            return (height, width), image.mode in _GREY
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError) as error:
        raise DataError(f"{name}: cannot be read as an image ({error}); replace or remove it") from error
