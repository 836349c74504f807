"""Images into classes: where the data comes from, how it is split, and what the network reads of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from compresslab.data.arrays import Images, Source, Targets, checked_images
from compresslab.data.augmentation import Augmentation
from compresslab.data.decoding import Decoding, joined, refit, take
from compresslab.data.fashion_mnist import FashionMnist
from compresslab.data.hf_saved import is_saved, load_saved, read_saved_images
from compresslab.data.identity import ids_of, sample_hashes
from compresslab.data.image_folder import load_image_folder, read_unlabelled
from compresslab.data.npz import load_npz, read_arrays
from compresslab.data.python_source import load_python
from compresslab.data.splits import prove_disjoint, require_every_class
from compresslab.errors import DataError
from compresslab.measure.metric_names import AnyClassMetric
from compresslab.measure.preprocessing import ImagePreprocessing
from compresslab.one_of import the_one
from compresslab.settings import FilePath, Settings
from compresslab.tasks.benchmark import content_digest
from compresslab.tasks.objective import Classes
from compresslab.tasks.places import Amount, Place, places
from compresslab.tasks.task import Split, Task
from compresslab.user_code import CodeReference

if TYPE_CHECKING:
    from collections.abc import Mapping

SOURCES = ("fashion_mnist", "folder", "npz", "datasets", "python")


class ImageClassification(Settings):
    """Exactly one source of images with a class each."""

    fashion_mnist: FashionMnist | None = None
    """Fashion-MNIST, found on this machine or fetched."""
    folder: FilePath | None = None
    """A folder with a sub-folder of images for each class; perhaps with `train`, `val`, `test` above these."""
    npz: FilePath | None = None
    """A file with the arrays `images` and `labels`, and perhaps `test_images`, `test_labels`, `label_names`."""
    datasets: FilePath | None = None
    """A folder written by `save_to_disk` of Hugging Face `datasets`."""
    python: CodeReference | None = None
    """`module:function` of your own, which returns the same names as an .npz file has."""
    transfer: FilePath | Annotated[tuple[FilePath, ...], Field(strict=False, min_length=1)] | None = None
    """Unlabelled images to distil on as well: a folder, an .npz file with `images`, or a folder written by
    `save_to_disk`; or a list of these."""
    calibration_data: FilePath | Annotated[tuple[FilePath, ...], Field(strict=False, min_length=1)] | None = None
    """Unlabelled images that set quantization ranges, instead of a part of the training data; given as `transfer`."""
    name: str | None = Field(None, pattern=r"^[^/\s]+$")
    """What results call it; null takes the name of the source."""
    size: int | None = Field(None, ge=1)
    """Height and width in pixels; null keeps those of the images, which must then be the same for all."""
    channels: Literal[1, 3] | None = None
    """1 for grey, 3 for RGB; null takes grey if all images are."""
    resize: Literal["bilinear", "bicubic", "nearest"] = "bilinear"
    """The filter by which images are brought to `size`."""
    crop: float = Field(1.0, gt=0, le=1)
    """The central share of each side that is kept before resizing."""
    metric: AnyClassMetric = "accuracy"
    """What quality means: a built-in metric, or `python:module:function` of your own, which takes `outputs`
    [n, labels] and `targets` [n] and gives a number, more of which is better. It is called some 200 times for an
    interval."""
    validation: Amount | None = None
    """What all decisions are made on. Null takes the source's own, or 10 % of the training data, at most 5,000."""
    calibration: Amount | None = None
    """What sets quantization ranges and importance scores. Null takes 5 % of the training data, at most 1,000."""
    test: Amount | None = None
    """What results are reported on. Null takes the source's own, or 15 % of the training data, at most 10,000."""
    augment: Augmentation = Augmentation()
    """Random changes of training images."""
    split_seed: int = 0
    """Another one gives other splits."""

    @model_validator(mode="after")
    def _check_one_source(self) -> ImageClassification:
        the_one(self, SOURCES)
        return self

    def load(self, cache: Path) -> Task:
        """Reads the data, splits it, and proves that the splits share nothing.

        Args:
            cache: Folder for what is fetched and decoded.

        Raises:
            DataError: The data is missing, broken, or cannot be split as asked.
        """
        decoding = Decoding(self.size, self.channels, self.resize, self.crop)
        source = self._source(decoding, cache)
        name = self.name or re.sub(r"[^\w.-]+", "_", source.name)
        images = {part: arrays.inputs for part, arrays in source.parts.items()}
        if self.folder is None and self.datasets is None:  # files were brought to it as they were decoded
            images = {part: refit(inputs, decoding, cache) for part, inputs in images.items()}
        for part, paths in (("transfer", self.transfer), ("calibration", self.calibration_data)):
            if paths is not None:
                given = (paths,) if isinstance(paths, str) else paths
                images[part] = joined([self._unlabelled(Path(one), images["train"], cache) for one in given], cache)
        _require_one_shape(name, images)
        hashes = {part: sample_hashes(inputs) for part, inputs in images.items()}
        classes = source.train.targets
        assert classes is not None, "sources are labelled"
        wanted = {"validation": self.validation, "calibration": self.calibration, "test": self.test}
        found, notes = places(
            source.name, {part: ids_of(one) for part, one in hashes.items()}, classes, wanted, self.split_seed
        )

        inputs = {split: take(images[place.part], place.rows, cache) for split, place in found.items()}

        def made(split: str, place: Place) -> Split:
            whole = source.parts[place.part].targets if place.part in source.parts else None
            targets = None if whole is None else whole[place.rows]
            chosen = hashes[place.part][place.rows]
            digest = content_digest(inputs[split], targets, chosen)
            return Split(split, inputs[split], targets, ids_of(chosen), digest, place.part, place.rows, place.size)

        splits = {split: made(split, place) for split, place in found.items()}
        prove_disjoint({split: part.ids for split, part in splits.items()})
        _check_classes(classes[found["train"].rows], source.train.labels)
        return Task.of(
            name=name,
            objective=Classes(source.train.labels),
            splits=splits,
            preprocessing=image_preprocessing(inputs["train"], decoding),
            augmentation=self.augment,
            metric=self.metric,
            notes=notes,
        )

    def _source(self, decoding: Decoding, cache: Path) -> Source:
        if self.fashion_mnist is not None:
            return self.fashion_mnist.load(cache)
        if self.folder is not None:
            return load_image_folder(Path(self.folder), decoding, cache)
        if self.npz is not None:
            return load_npz(Path(self.npz))
        if self.datasets is not None:
            return load_saved(Path(self.datasets), decoding, cache)
        assert self.python is not None, "exactly one source is given"
        return load_python(self.python)

    def _unlabelled(self, path: Path, like: Images, cache: Path) -> Images:
        _, height, width, channels = like.shape
        decoding = Decoding(height if height == width else None, 3 if channels == 3 else 1, self.resize, self.crop)
        if path.suffix == ".npz":
            found = refit(_unlabelled(path), decoding, cache)
        elif is_saved(path):
            found = read_saved_images(path, decoding, cache)
        else:
            found = read_unlabelled(path, decoding, cache)
        if found.shape[1:] != like.shape[1:]:
            raise DataError(
                f"{path}: images are {list(found.shape[1:])} (height, width, channels), but those of train are "
                f"{list(like.shape[1:])}; give `size`, to which all are resized"
            )
        return found


def _unlabelled(path: Path) -> Images:
    arrays = read_arrays(path)
    if "images" not in arrays:
        raise DataError(f"{path}: has no `images`; found {', '.join(f'`{name}`' for name in arrays) or 'nothing'}")
    return checked_images(f"{path}: `images`", arrays["images"])


def _require_one_shape(name: str, images: Mapping[str, Images]) -> None:
    shapes = {part: list(inputs.shape[1:]) for part, inputs in images.items()}
    for part, shape in shapes.items():
        if shape != shapes["train"]:
            raise DataError(
                f"{name}: images are {shapes['train']} (height, width, channels) in train, but {shape} in {part}; "
                "give `size` and `channels`"
            )


def _check_classes(train: Targets, labels: tuple[str, ...]) -> None:
    if len(labels) < 2:
        raise DataError(f"there must be at least two classes, but got {list(labels)}")
    require_every_class(train, labels, "train")


def image_preprocessing(train: Images, decoding: Decoding) -> ImagePreprocessing:
    """Mean and deviation of each channel over the training images, from exact counts of pixel values."""
    _, height, width, channels = train.shape
    counts = np.zeros((channels, 256), np.int64)
    for start in range(0, len(train), 1024):
        for channel in range(channels):
            counts[channel] += np.bincount(train[start : start + 1024, ..., channel].ravel(), minlength=256)
    values = np.arange(256) / 255
    shares = counts / counts.sum(axis=1, keepdims=True)
    mean = shares @ values
    std = np.sqrt(shares @ values**2 - mean**2)
    return ImagePreprocessing(
        height=height,
        width=width,
        channels=3 if channels == 3 else 1,
        mean=tuple(round(float(value), 4) for value in mean),
        # A channel that never changes carries nothing; it must not divide by zero either.
        std=tuple(round(float(value), 4) or 1.0 for value in np.nan_to_num(std)),
        resize=decoding.resize,
        crop=decoding.crop,
        fit=decoding.fit,
    )
