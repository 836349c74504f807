"""A folder of images with a sub-folder for each class, and perhaps a level of `train` and `test` above."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from compresslab.data.arrays import Arrays, Images, Source
from compresslab.data.decoding import Decoding, Files, decode, listing_digest
from compresslab.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SPLIT_FOLDERS: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}
"""Names by which a part is known, in image folders and saved data sets alike."""


def load_image_folder(folder: Path, decoding: Decoding, cache: Path) -> Source:
    """Every image below a class's folder is one sample of it. Classes are sorted by name; hidden files are ignored.

    Raises:
        DataError: The folder is missing or laid out otherwise, a class has no image, or an image is broken.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder")
    places = _split_places(folder)
    listed = {split: _listed(place) for split, place in places.items()}
    labels = tuple(sorted({label for classes in listed.values() for label in classes}))
    if not labels:
        raise DataError(f"{folder}: has no sub-folders; put the images of each class in a folder of its own")
    arrays = {split: _read(places[split], classes, labels, decoding, cache) for split, classes in listed.items()}
    return Source(folder.resolve().name, arrays["train"], arrays.get("validation"), arrays.get("test"))


def listed_images(folder: Path) -> dict[str, list[Path]]:
    """The files of each class, of the training part where there are several; none is opened.

    Raises:
        DataError: The folder is laid out otherwise, or a class has no image.
    """
    listed = _listed(_split_places(folder)["train"])
    if not listed:
        raise DataError(f"{folder}: has no sub-folders; put the images of each class in a folder of its own")
    return listed


def read_unlabelled(folder: Path, decoding: Decoding, cache: Path) -> Images:
    """Every image below a folder.

    Raises:
        DataError: There is none, or one is broken.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder")
    paths = _images(folder)
    if not paths:
        raise DataError(f"{folder}: has no images")
    return _decoded(folder, paths, decoding, cache)


def _split_places(folder: Path) -> dict[str, Path]:
    inside = _folders(folder)
    train = [place for place in inside if place.name.lower() in SPLIT_FOLDERS["train"] and _folders(place)]
    if not train:  # a class may be called `train`
        return {"train": folder}
    known = {alias: split for split, aliases in SPLIT_FOLDERS.items() for alias in aliases}
    places: dict[str, Path] = {}
    for place in inside:
        split = known.get(place.name.lower())
        if split is None or split in places:
            raise DataError(
                f"{folder}: beside `{train[0].name}` there is `{place.name}`, which is "
                f"{'no split that is known' if split is None else f'also {split}'}; one each may be called: "
                + "; ".join(", ".join(aliases) for aliases in SPLIT_FOLDERS.values())
            )
        places[split] = place
    return places


def _listed(folder: Path) -> dict[str, list[Path]]:
    """The image files of each class of one split."""
    classes = {place.name: _images(place) for place in _folders(folder)}
    for label, paths in classes.items():
        if not paths:
            raise DataError(f"{folder / label}: class `{label}` has no images; add some or remove the folder")
    return classes


def _folders(folder: Path) -> list[Path]:
    return sorted(place for place in folder.iterdir() if place.is_dir() and not place.name.startswith("."))


def _images(folder: Path) -> list[Path]:
    suffixes = Image.registered_extensions()
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in suffixes and not path.name.startswith(".") and path.is_file()
    )


def _read(
    folder: Path, classes: Mapping[str, list[Path]], labels: tuple[str, ...], decoding: Decoding, cache: Path
) -> Arrays:
    paths = [path for files in classes.values() for path in files]
    targets = np.array([labels.index(label) for label, files in classes.items() for _ in files], np.int64)
    return Arrays(_decoded(folder, paths, decoding, cache), targets, labels)


def _decoded(folder: Path, paths: list[Path], decoding: Decoding, cache: Path) -> Images:
    files = Files(
        count=len(paths),
        part=lambda start, stop: paths[start:stop],
        name=lambda index: str(paths[index]),
        digest=listing_digest(paths, folder),
    )
    return decode(files, decoding, cache)
