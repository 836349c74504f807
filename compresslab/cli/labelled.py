"""Labelled images given on the command line, as a model's own preprocessing takes them."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from compresslab.data.arrays import Arrays, Source
from compresslab.data.decoding import Decoding
from compresslab.data.image_folder import load_image_folder
from compresslab.data.npz import load_npz
from compresslab.errors import DataError, did_you_mean
from compresslab.measure.evaluate import EvalSplit

if TYPE_CHECKING:
    from compresslab.measure.artifact import Artifact


def labelled_images(path: Path, artifact: Artifact) -> tuple[EvalSplit, str]:
    """The images and labels of an .npz file or an image folder, and a note of which part of them was taken.

    Where there are several parts, `test` is taken, else `validation`. Labels with names are matched with the model's
    by name.

    Raises:
        DataError: They are missing, broken, or not what the model was made for.
    """
    preprocessing = artifact.manifest.preprocessing
    if path.is_dir():
        if preprocessing.height != preprocessing.width:
            raise DataError(
                f"{path}: the model takes images of {preprocessing.height} x {preprocessing.width}; folders are read "
                "as squares only, so give an .npz file"
            )
        decoding = Decoding(preprocessing.height, preprocessing.channels, preprocessing.resize, preprocessing.crop)
        with TemporaryDirectory(prefix="compresslab-gate-") as cache:
            source = load_image_folder(path, decoding, Path(cache))
            part, arrays = _part(source)
            # Out of the memory map, which goes with the folder.
            inputs = np.array(arrays.inputs)
    else:
        source = load_npz(path)
        part, arrays = _part(source)
        inputs = arrays.inputs
    assert arrays.targets is not None, "both loaders refuse images without labels"
    targets = _by_name(path, arrays, artifact.manifest.labels)
    return EvalSplit("data", inputs, targets), f"quality on {part} of {path}: {len(targets)} examples"


def _part(source: Source) -> tuple[str, Arrays]:
    parts = source.parts
    name = next(name for name in ("test", "validation", "train") if name in parts)
    return ("all" if len(parts) == 1 else f"`{name}`"), parts[name]


def _by_name(path: Path, arrays: Arrays, labels: tuple[str, ...]) -> np.ndarray:
    """The targets as indices of the model's labels. Labels without names are numbers, and indices already."""
    assert arrays.targets is not None
    if all(name == str(index) for index, name in enumerate(arrays.labels)):
        return arrays.targets
    unknown = [name for name in arrays.labels if name not in labels]
    if unknown:
        raise DataError(
            f"{path}: the model has no label `{unknown[0]}`{did_you_mean(unknown[0], labels)} "
            f"Its labels are {', '.join(labels)}"
        )
    return np.array([labels.index(name) for name in arrays.labels], np.int64)[arrays.targets]
