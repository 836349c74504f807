"""Tables of images and texts that belong together: read, checked with the line that is wrong, and put into groups."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from compresslab.errors import DataError, did_you_mean

FORMATS = (".csv", ".tsv", ".jsonl", ".parquet")
SPLITS = {"train": "train", "training": "train", "validation": "validation", "val": "validation", "valid": "validation",
          "dev": "validation", "test": "test"}  # fmt: skip
IMAGE, TEXT, GROUP, SPLIT = "image", "text", "group", "split"
_LARGEST_FIELD = 1 << 30


@dataclass(frozen=True)
class PairTable:
    """The images and the texts of one part of a table, each once, and the groups that they are of.

    Args:
        images: Paths [n].
        image_groups: The number of each one's group, int64 [n].
        texts: [m].
        text_groups: int64 [m].
        image_place: Says where in the table an image first stands.
    """

    images: tuple[Path, ...]
    image_groups: npt.NDArray[np.int64]
    texts: tuple[str, ...]
    text_groups: npt.NDArray[np.int64]
    image_place: Callable[[int], str]


@dataclass(frozen=True)
class _Row:
    place: str
    image: str
    text: str
    group: str | None
    split: str


def read_pairs(path: Path) -> dict[str, PairTable]:
    """The parts of a table: `train`, and where its column `split` says so `validation` and `test`.

    Each row is an image (a path, relative to the table's folder) and a text that belong together. Rows of the same
    `group` do as well, and without that column rows that share an image or a text.

    Raises:
        DataError: The file is missing, broken, of another kind, has no such columns, a row has an image without a text
            or a text without an image, or a file that it names is not there.
    """
    rows = [_row(place, fields) for place, fields in _fields(path)]
    if not rows:
        raise DataError(f"{path}: has no pairs")
    numbers = _groups(path, rows)
    found = {}
    for split in dict.fromkeys(SPLITS.values()):
        its = [number for number, row in enumerate(rows) if row.split == split]
        if its:
            found[split] = _part(path, [rows[number] for number in its], numbers[its])
    if "train" not in found:
        raise DataError(f"{path}: no row is of the split `train`; found {', '.join(f'`{one}`' for one in found)}")
    return found


def connected(first: Sequence[int], second: Sequence[int]) -> npt.NDArray[np.int64]:
    """For each edge between two numbered things the number of the component that it is in [edges]."""
    one, other = np.asarray(first, np.int64), np.asarray(second, np.int64)
    size = int(one.max()) + int(other.max()) + 2
    edges = coo_array((np.ones(len(one)), (one, int(one.max()) + 1 + other)), shape=(size, size))
    return np.asarray(connected_components(edges, directed=False)[1][one], np.int64)


def _groups(path: Path, rows: Sequence[_Row]) -> npt.NDArray[np.int64]:
    given = [row.group for row in rows]
    if all(group is None for group in given):
        return connected(_numbered([row.image for row in rows]), _numbered([row.text for row in rows]))
    for row in rows:
        if row.group is None:
            raise DataError(f"{row.place}: has no `{GROUP}`, but other rows of {path} have; give each one, or none")
    return np.array(_numbered([str(group) for group in given]), np.int64)


def _part(path: Path, rows: Sequence[_Row], groups: npt.NDArray[np.int64]) -> PairTable:
    images: dict[tuple[str, int], str] = {}
    texts: dict[tuple[str, int], None] = {}
    for row, group in zip(rows, groups.tolist(), strict=True):
        images.setdefault((row.image, group), row.place)
        texts.setdefault((row.text, group))
    paths = tuple(path.parent / image for image, _ in images)
    places = list(images.values())
    missing = [number for number, one in enumerate(paths) if not one.is_file()]
    if missing:
        more = f" ({len(missing)} of {len(paths)} images are missing)" if len(missing) > 1 else ""
        raise DataError(
            f"{places[missing[0]]}: there is no image {paths[missing[0]]}{more}; paths start from the table's folder"
        )
    return PairTable(
        paths,
        np.array([group for _, group in images], np.int64),
        tuple(text for text, _ in texts),
        np.array([group for _, group in texts], np.int64),
        lambda number: places[number],
    )


def _row(place: str, fields: Mapping[str, Any]) -> _Row:
    values = {}
    for name, other in ((IMAGE, TEXT), (TEXT, IMAGE)):
        value = fields.get(name)
        if not isinstance(value, str) or not value.strip():
            if isinstance(value, str | None):
                raise DataError(
                    f"{place}: has no {name}, so its {other} has no partner; leave the row out, or give it "
                    "as `transfer`"
                )
            raise DataError(f"{place}: `{name}` must be text, but is {value!r}")
        values[name] = value
    group, split = fields.get(GROUP), fields.get(SPLIT)
    named = "train" if split in (None, "") else SPLITS.get(str(split).lower())
    if named is None:
        raise DataError(f"{place}: the split is {split!r}; it may be {', '.join(f'`{name}`' for name in SPLITS)}")
    return _Row(place, values[IMAGE], values[TEXT], None if group in (None, "") else str(group), named)


def _numbered(values: Sequence[str]) -> list[int]:
    numbers: dict[str, int] = {}
    return [numbers.setdefault(value, len(numbers)) for value in values]


def _fields(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each row with where it stands."""
    if path.suffix.lower() not in FORMATS:
        raise DataError(f"{path}: is no table of pairs that is known; give one that ends in {', '.join(FORMATS)}")
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    try:
        yield from {".jsonl": _jsonl, ".parquet": _parquet}.get(path.suffix.lower(), _csv)(path)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error}") from error


def _csv(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    csv.field_size_limit(_LARGEST_FIELD)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
        try:
            header = next(reader, [])
            _require_columns(f"{path}:1", header)
            line = reader.line_num + 1
            for fields in reader:
                if fields and len(fields) != len(header):
                    raise DataError(
                        f"{path}:{line}: has {len(fields)} fields, but the header names {len(header)}; put quotes "
                        "around a text with a separator in it"
                    )
                if fields:
                    yield f"{path}:{line}", dict(zip(header, fields, strict=True))
                line = reader.line_num + 1
        except csv.Error as error:
            raise DataError(f"{path}:{reader.line_num}: cannot be read as CSV: {error}") from error


def _jsonl(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            place = f"{path}:{number}"
            try:
                found = json.loads(line)
            except ValueError as error:
                raise DataError(f"{place}: is not JSON: {error}; give one object a line") from error
            if not isinstance(found, dict):
                raise DataError(f'{place}: must be an object such as {{"image": ..., "text": ...}}')
            _require_columns(place, list(found))
            yield place, found


def _parquet(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if find_spec("pyarrow") is None:
        raise DataError(f"{path}: reading it needs the library `pyarrow` (pip install compresslab[data])")
    import pyarrow
    from pyarrow import parquet

    try:
        names = parquet.read_schema(path).names
        _require_columns(str(path), names)
        columns = [name for name in (IMAGE, TEXT, GROUP, SPLIT) if name in names]
        rows = parquet.read_table(path, columns=columns).to_pylist()
    except pyarrow.ArrowException as error:
        raise DataError(f"{path}: cannot be read as a Parquet file: {error}") from error
    for number, row in enumerate(rows):
        yield f"{path}, row {number}", row


def _require_columns(place: str, found: Sequence[str]) -> None:
    for name in (IMAGE, TEXT):
        if name not in found:
            there = ", ".join(f"`{one}`" for one in found) or "nothing"
            raise DataError(
                f"{place}: has no `{name}`{did_you_mean(name, found)}; found {there}. A table of pairs has the columns "
                f"`{IMAGE}` and `{TEXT}`, and perhaps `{GROUP}` and `{SPLIT}`"
            )
