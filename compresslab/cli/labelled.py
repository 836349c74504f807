"""Labelled data given on the command line, as a model's own preprocessing takes it."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from compresslab.data.arrays import Arrays
from compresslab.data.decoding import Decoding
from compresslab.data.features import load_table_npz
from compresslab.data.grouped import load_grouped_npz
from compresslab.data.image_folder import load_image_folder
from compresslab.data.npz import load_npz
from compresslab.data.text_rows import read_rows
from compresslab.data.texts import classes, scores
from compresslab.errors import DataError, did_you_mean
from compresslab.measure.evaluate import EvalSplit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from compresslab.measure.artifact import Artifact, Manifest
    from compresslab.measure.preprocessing import ImagePreprocessing

P = TypeVar("P")


def labelled_data(path: Path, artifact: Artifact) -> tuple[EvalSplit, str]:
    """The samples and targets of an .npz file, an image folder or a file of texts; and a note of which part was taken.

    Texts are in the column `text`, their classes in `label`, a number in what it is called or else in `score`.
    Where there are several parts, `test` is taken, else `validation`. Labels with names are matched with the model's
    by name.

    Raises:
        DataError: They are missing, broken, or not what the model was made for.
    """
    preprocessing = artifact.manifest.preprocessing
    if artifact.manifest.embedding is not None and preprocessing.kind == "features":
        part, split = _groups(path)
    elif preprocessing.kind == "text":
        part, split = _texts(path, artifact.manifest)
    elif preprocessing.kind == "features":
        part, split = _features(path)
    else:
        part, arrays = _images(path, preprocessing)
        split = EvalSplit("data", arrays.inputs, _by_name(path, arrays, artifact.manifest.labels))
    return split, f"quality on {part} of {path}: {len(split.targets)} examples"


def _features(path: Path) -> tuple[str, EvalSplit]:
    if path.is_dir():
        raise DataError(f"{path}: is a folder, but the model reads features; give an .npz file with `features`")
    part, table = _part(load_table_npz(path).parts)
    return part, EvalSplit("data", table.inputs, table.targets)


def _groups(path: Path) -> tuple[str, EvalSplit]:
    part, grouped = _part(load_grouped_npz(path))
    if grouped.targets is None:
        raise DataError(f"{path}: the model gives embeddings; give `groups` or `scores` beside `features`")
    return part, EvalSplit("data", grouped.inputs, grouped.targets)


def _texts(path: Path, manifest: Manifest) -> tuple[str, EvalSplit]:
    value = "label" if manifest.labels else manifest.target or "score"
    rows = read_rows(path, "text", value)
    if not manifest.labels:
        return "all", EvalSplit("data", rows.texts, scores(rows))
    labels, targets = classes({"data": rows}, manifest.labels)
    arrays = Arrays(np.empty(0, np.uint8), targets["data"], labels)
    return "all", EvalSplit("data", rows.texts, _by_name(path, arrays, manifest.labels))


def _images(path: Path, preprocessing: ImagePreprocessing) -> tuple[str, Arrays]:
    if not path.is_dir():
        return _part(load_npz(path).parts)
    if preprocessing.height != preprocessing.width:
        raise DataError(
            f"{path}: the model takes images of {preprocessing.height} x {preprocessing.width}; folders are read "
            "as squares only, so give an .npz file"
        )
    decoding = Decoding(
        preprocessing.height, preprocessing.channels, preprocessing.resize, preprocessing.crop, preprocessing.fit
    )
    with TemporaryDirectory(prefix="compresslab-gate-") as cache:
        part, arrays = _part(load_image_folder(path, decoding, Path(cache)).parts)
        # Out of the memory map, which goes with the folder.
        return part, Arrays(np.array(arrays.inputs), arrays.targets, arrays.labels)


def _part(parts: Mapping[str, P]) -> tuple[str, P]:
    name = next(name for name in ("test", "validation", "train") if name in parts)
    return ("all" if len(parts) == 1 else f"`{name}`"), parts[name]


def _by_name(path: Path, arrays: Arrays, labels: tuple[str, ...]) -> np.ndarray:
    """The targets as indices of the model's labels. Labels without names are numbers, and indices already."""
    assert arrays.targets is not None, "both loaders refuse images without labels"
    if all(name == str(index) for index, name in enumerate(arrays.labels)):
        return arrays.targets
    unknown = [name for name in arrays.labels if name not in labels]
    if unknown:
        raise DataError(
            f"{path}: the model has no label `{unknown[0]}`{did_you_mean(unknown[0], labels)} "
            f"Its labels are {', '.join(labels)}"
        )
    return np.array([labels.index(name) for name in arrays.labels], np.int64)[arrays.targets]
