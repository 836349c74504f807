"""Tables of images and texts that belong together: read, checked with the line that is wrong, and put into groups."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from compresslab.data.grouping import connected, numbered
from compresslab.data.table_rows import FORMATS, blank, require_letters, row_place, table_rows
from compresslab.errors import DataError, did_you_mean

SPLITS = {"train": "train", "training": "train", "validation": "validation", "val": "validation", "valid": "validation",
          "dev": "validation", "test": "test"}  # fmt: skip
IMAGE, TEXT, GROUP, SPLIT = "image", "text", "group", "split"


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


def _groups(path: Path, rows: Sequence[_Row]) -> npt.NDArray[np.int64]:
    given = [row.group for row in rows]
    if all(group is None for group in given):
        return connected(numbered([row.image for row in rows]), numbered([row.text for row in rows]))
    for row in rows:
        if row.group is None:
            raise DataError(f"{row.place}: has no `{GROUP}`, but other rows of {path} have; give each one, or none")
    return np.array(numbered([str(group) for group in given]), np.int64)


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
        if not isinstance(value, str) or blank(value):
            if isinstance(value, str | None):
                raise DataError(
                    f"{place}: has no {name}, so its {other} has no partner; leave the row out, or give it "
                    "as `transfer`"
                )
            raise DataError(f"{place}: `{name}` must be text, but is {value!r}")
        require_letters(f"{place}: the {name}", value, "the row")
        values[name] = value
    group, split = fields.get(GROUP), fields.get(SPLIT)
    named = "train" if split in (None, "") else SPLITS.get(str(split).lower())
    if named is None:
        raise DataError(f"{place}: the split is {split!r}; it may be {', '.join(f'`{name}`' for name in SPLITS)}")
    return _Row(place, values[IMAGE], values[TEXT], None if group in (None, "") else str(group), named)


def _fields(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each row with where it stands."""
    if path.suffix.lower() not in FORMATS:
        raise DataError(f"{path}: is no table of pairs that is known; give one that ends in {', '.join(FORMATS)}")
    for number, fields in table_rows(path, (IMAGE, TEXT), _no_column, beside=(GROUP, SPLIT)):
        yield row_place(path, number), fields


def _no_column(place: str, column: str, found: Sequence[str]) -> DataError:
    there = ", ".join(f"`{one}`" for one in found) or "nothing"
    return DataError(
        f"{place}: has no `{column}`{did_you_mean(column, found)}; found {there}. A table of pairs has the columns "
        f"`{IMAGE}` and `{TEXT}`, and perhaps `{GROUP}` and `{SPLIT}`"
    )
