"""A data set that the `datasets` library saved to disk (`save_to_disk`)."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from compresslab.data.arrays import Arrays, Images, Source, labelled
from compresslab.data.decoding import Decoding, Encoded, Files, decode, joined, listing_digest
from compresslab.data.image_folder import SPLIT_FOLDERS
from compresslab.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_LABEL_NAMES = ("label", "labels", "target", "class")
_MARKS = ("dataset_dict.json", "state.json")


def load_saved(folder: Path, decoding: Decoding, cache: Path) -> Source:
    """The one image column and the one label column of a saved Dataset, or of each split of a DatasetDict.

    Raises:
        DataError: The library or the folder is missing, or the columns are not one image and one class label.
    """
    tables = saved_by_split(folder)
    digest = _digest(folder)
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


def is_saved(folder: Path) -> bool:
    """Whether `save_to_disk` wrote this folder: its own files lie beside the data."""
    return any((folder / name).is_file() for name in _MARKS)


def saved_tables(folder: Path) -> dict[str, Any]:
    """The Datasets of a folder by the names of their splits; a Dataset alone is `train`.

    Raises:
        DataError: The library or the folder is missing.
    """
    saved = _saved(folder)
    return dict(saved) if isinstance(saved, dict) else {"train": saved}


def saved_by_split(folder: Path) -> dict[str, Any]:
    """The Datasets of a folder as `train` and perhaps `validation` and `test`.

    Raises:
        DataError: The library or the folder is missing, or a split has another name.
    """
    saved = _saved(folder)
    return _by_split(folder, saved) if isinstance(saved, dict) else {"train": saved}


def read_saved_images(folder: Path, decoding: Decoding, cache: Path) -> Images:
    """The one image column of a saved Dataset, or of all splits of a DatasetDict in their order; labels are not read.

    Raises:
        DataError: The library or the folder is missing, there is no image column or more than one, or an image is
            broken.
    """
    tables = saved_tables(folder)
    digest = _digest(folder)
    parts = []
    for name, table in tables.items():
        where = f"{folder} ({name})"
        parts.append(decode(_files(where, table, _image_column(where, table.features), f"{digest}/{name}"),
                            decoding, cache))  # fmt: skip
    for (name, _), part in zip(tables.items(), parts, strict=True):
        if part.shape[1:] != parts[0].shape[1:]:
            raise DataError(f"{folder}: the images of `{name}` differ in size from the others; give `size`")
    return joined(parts, cache)


def _saved(folder: Path) -> Any:
    """The Dataset or DatasetDict in a folder."""
    if find_spec("datasets") is None:
        raise DataError(f"{folder}: reading it needs the library `datasets` (pip install datasets)")
    from datasets import load_from_disk

    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder")
    try:
        return load_from_disk(str(folder))
    except (FileNotFoundError, ValueError, OSError, KeyError, TypeError) as error:
        raise DataError(f"{folder}: cannot be read as a data set saved by `save_to_disk`: {error}") from error


def _digest(folder: Path) -> str:
    return listing_digest(sorted(path for path in folder.rglob("*") if path.is_file()), folder)


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
    image = _image_column(where, table.features)
    label, names = _label_column(where, table.features)
    files = _files(where, table, image, digest)
    # A column with a missing value becomes an array of objects, which `labelled` refuses.
    targets = np.asarray(table.select_columns([label]).with_format(None)[:][label])
    names = names or labels
    if names is None:
        highest = int(targets.max()) if targets.dtype.kind in "iu" else -1
        names = tuple(str(index) for index in range(highest + 1))
    return labelled(where, decode(files, decoding, cache), targets, names)


def _files(where: str, table: Any, image: str, digest: str) -> Files:
    """The images of a table, still encoded."""
    from datasets import Image

    if len(table) == 0:
        raise DataError(f"{where}: has no samples")
    encoded = table.cast_column(image, Image(decode=False))

    def part(start: int, stop: int) -> Sequence[Encoded]:
        cells = encoded[start:stop][image]
        for index, cell in enumerate(cells, start):
            if cell is None:
                raise DataError(f"{where}: sample {index} has no image")
        return [cell["path"] if cell["bytes"] is None else cell["bytes"] for cell in cells]

    return Files(len(table), part, lambda index: f"{where}, sample {index}", digest)


def _image_column(where: str, features: Any) -> str:
    """The one column of images."""
    from datasets import Image

    images = [str(name) for name, feature in features.items() if isinstance(feature, Image)]
    if len(images) != 1:
        raise DataError(
            f"{where}: exactly one column must be of type Image, but {len(images)} are; found {_found(features)}"
        )
    return images[0]


def _label_column(where: str, features: Any) -> tuple[str, tuple[str, ...] | None]:
    """The one column of labels, and their names where the features tell them."""
    from datasets import ClassLabel

    classes = [name for name, feature in features.items() if isinstance(feature, ClassLabel)]
    if len(classes) == 1:
        return classes[0], tuple(features[classes[0]].names)
    plain = [name for name in _LABEL_NAMES if name in features] if not classes else []
    if len(plain) != 1:
        raise DataError(
            f"{where}: exactly one column must be of type ClassLabel, or whole numbers called "
            f"{' or '.join(f'`{name}`' for name in _LABEL_NAMES)}; found {_found(features)}; drop others with "
            "`remove_columns`"
        )
    return plain[0], None


def _found(features: Any) -> str:
    return ", ".join(f"`{name}` ({type(feature).__name__})" for name, feature in features.items())
