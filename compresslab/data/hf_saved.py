"""A data set that the `datasets` library saved to disk (`save_to_disk`)."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from compresslab.data.arrays import Arrays, Source, labelled
from compresslab.data.decoding import Decoding, Encoded, Files, decode, listing_digest
from compresslab.data.image_folder import SPLIT_FOLDERS
from compresslab.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_LABEL_NAMES = ("label", "labels", "target", "class")


def load_saved(folder: Path, decoding: Decoding, cache: Path) -> Source:
    """The one image column and the one label column of a saved Dataset, or of each split of a DatasetDict.

    Raises:
        DataError: The library or the folder is missing, or the columns are not one image and one class label.
    """
    if find_spec("datasets") is None:
        raise DataError(f"{folder}: reading it needs the library `datasets` (pip install datasets)")
    from datasets import Dataset, load_from_disk

    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder")
    try:
        saved = load_from_disk(str(folder))
    except (FileNotFoundError, ValueError, OSError, KeyError, TypeError) as error:
        raise DataError(f"{folder}: cannot be read as a data set saved by `save_to_disk`: {error}") from error
    tables: dict[str, Any] = {"train": saved} if isinstance(saved, Dataset) else _by_split(folder, saved)
    digest = listing_digest(sorted(path for path in folder.rglob("*") if path.is_file()), folder)
    arrays: dict[str, Arrays] = {}
    for split, table in sorted(tables.items(), key=lambda item: item[0] != "train"):
        labels = arrays["train"].labels if arrays else None
        arrays[split] = _read(f"{folder} ({split})", table, f"{digest}/{split}", labels, decoding, cache)
        if arrays[split].labels != arrays["train"].labels:
            raise DataError(
                f"{folder}: `{split}` names the labels {list(arrays[split].labels)}, but `train` "
                f"{list(arrays['train'].labels)}"
            )
    return Source(folder.resolve().name, arrays["train"], arrays.get("validation"), arrays.get("test"))


def _by_split(folder: Path, saved: Any) -> dict[str, Any]:
    known = {alias: split for split, aliases in SPLIT_FOLDERS.items() for alias in aliases}
    tables: dict[str, Any] = {}
    for name, table in saved.items():
        split = known.get(name.lower())
        if split is None or split in tables:
            raise DataError(
                f"{folder}: split `{name}` is {'not known' if split is None else f'a second {split}'}; save one each "
                "of: " + "; ".join(", ".join(aliases) for aliases in SPLIT_FOLDERS.values())
            )
        tables[split] = table
    if "train" not in tables:
        raise DataError(f"{folder}: has no `train` split; found {', '.join(saved)}")
    return tables


def _read(
    where: str, table: Any, digest: str, labels: tuple[str, ...] | None, decoding: Decoding, cache: Path
) -> Arrays:
    """One split. `labels` are those of the split before it, for columns that name none themselves."""
    from datasets import Image

    image, label, names = _columns(where, table.features)
    if len(table) == 0:
        raise DataError(f"{where}: has no samples")
    encoded = table.cast_column(image, Image(decode=False))

    def part(start: int, stop: int) -> Sequence[Encoded]:
        cells = encoded[start:stop][image]
        for index, cell in enumerate(cells, start):
            if cell is None:
                raise DataError(f"{where}: sample {index} has no image")
        return [cell["path"] if cell["bytes"] is None else cell["bytes"] for cell in cells]

    files = Files(len(table), part, lambda index: f"{where}, sample {index}", digest)
    # A column with a missing value becomes an array of objects, which `labelled` refuses.
    targets = np.asarray(table.select_columns([label]).with_format(None)[:][label])
    names = names or labels
    if names is None:
        highest = int(targets.max()) if targets.dtype.kind in "iu" else -1
        names = tuple(str(index) for index in range(highest + 1))
    return labelled(where, decode(files, decoding, cache), targets, names)


def _columns(where: str, features: Any) -> tuple[str, str, tuple[str, ...] | None]:
    """The image column, the label column, and the label names where the features tell them."""
    from datasets import ClassLabel, Image

    found = ", ".join(f"`{name}` ({type(feature).__name__})" for name, feature in features.items())
    images = [name for name, feature in features.items() if isinstance(feature, Image)]
    if len(images) != 1:
        raise DataError(f"{where}: exactly one column must be of type Image, but {len(images)} are; found {found}")
    classes = [name for name, feature in features.items() if isinstance(feature, ClassLabel)]
    if len(classes) == 1:
        return images[0], classes[0], tuple(features[classes[0]].names)
    plain = [name for name in _LABEL_NAMES if name in features] if not classes else []
    if len(plain) != 1:
        raise DataError(
            f"{where}: exactly one column must be of type ClassLabel, or whole numbers called "
            f"{' or '.join(f'`{name}`' for name in _LABEL_NAMES)}; found {found}; drop others with `remove_columns`"
        )
    return images[0], plain[0], None
