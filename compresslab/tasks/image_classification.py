"""Images into classes: where the data comes from, how it is split, and what the network reads of it."""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import AfterValidator, Field, model_validator

from compresslab.data.arrays import Images, Source, Targets, checked_images
from compresslab.data.augmentation import Augmentation
from compresslab.data.decoding import Decoding, refit, take
from compresslab.data.fashion_mnist import FashionMnist
from compresslab.data.hf_saved import load_saved
from compresslab.data.identity import Hashes, ids_of, sample_hashes
from compresslab.data.image_folder import load_image_folder, read_unlabelled
from compresslab.data.npz import load_npz, read_arrays
from compresslab.data.python_source import load_python
from compresslab.data.splits import Rows, carve, prove_disjoint, require_every_class
from compresslab.digest import code_digest, digest_of
from compresslab.errors import DataError
from compresslab.measure.preprocessing import ImagePreprocessing
from compresslab.one_of import the_one
from compresslab.settings import FilePath, Settings
from compresslab.tasks.task import Split, Task
from compresslab.user_code import CodeReference

if TYPE_CHECKING:
    from collections.abc import Mapping

SOURCES = ("fashion_mnist", "folder", "npz", "datasets", "python")

# Share of the pool, and at most this many: what a split takes when nothing is said.
_DEFAULT_AMOUNTS = {"test": (0.15, 10_000), "validation": (0.1, 5_000), "calibration": (0.05, 1_000)}

# What turns the splits into inputs and a loss; what made the splits shows in their content.
_INPUT_CODE = ("compresslab.tasks.task", "compresslab.data.augmentation", "compresslab.measure.preprocessing")


def _positive_or_share(value: int | float) -> int | float:
    if isinstance(value, int) and value < 1:
        raise ValueError(f"`1 <= samples` must hold for a whole number, but got {value}")
    if isinstance(value, float) and not 0 < value < 1:
        raise ValueError(f"`0 < share < 1` must hold for a fraction, but got {value}; write a number of samples whole")
    return value


Amount = Annotated[int | float, AfterValidator(_positive_or_share)]
"""A number of samples, or a share of the samples that are split."""


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
    transfer: FilePath | None = None
    """Unlabelled images to distil on as well: a folder, or an .npz file with `images`."""
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
    metric: Literal["accuracy", "f1_macro"] = "accuracy"
    """What quality means."""
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
        images = {part: refit(arrays.inputs, decoding, cache) for part, arrays in source.parts.items()}
        if self.transfer is not None:
            images["transfer"] = self._transfer(Path(self.transfer), images["train"], cache)
        _require_one_shape(name, images)
        hashes = {part: sample_hashes(inputs) for part, inputs in images.items()}
        rows, notes = self._rows(source, hashes)

        def made(split: str, selected: Rows) -> Split:
            part = split if split in images else "train"
            targets = source.parts[part].targets if part in source.parts else None
            inputs = take(images[part], selected, cache)
            return _split(split, inputs, None if targets is None else targets[selected], hashes[part][selected])

        splits = {split: made(split, selected) for split, selected in rows.items()}
        prove_disjoint({split: part.ids for split, part in splits.items()})
        _check_classes(splits, source.train.labels)
        preprocessing = _preprocessing(splits["train"].inputs, decoding)
        return Task(
            name=name,
            labels=source.train.labels,
            splits=splits,
            preprocessing=preprocessing,
            augmentation=self.augment,
            metric=self.metric,
            digest=digest_of(
                {
                    "name": name,
                    "labels": source.train.labels,
                    "splits": {split: part.digest for split, part in splits.items()},
                    "preprocessing": preprocessing.model_dump(mode="json"),
                    "augmentation": self.augment.model_dump(mode="json"),
                    "metric": self.metric,
                    "code": code_digest(*_INPUT_CODE),
                }
            ),
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

    def _transfer(self, path: Path, like: Images, cache: Path) -> Images:
        _, height, width, channels = like.shape
        decoding = Decoding(height if height == width else None, 3 if channels == 3 else 1, self.resize, self.crop)
        if path.suffix != ".npz":
            return read_unlabelled(path, decoding, cache)
        arrays = read_arrays(path)
        if "images" not in arrays:
            raise DataError(f"{path}: has no `images`; found {', '.join(f'`{name}`' for name in arrays) or 'nothing'}")
        return refit(checked_images(f"{path}: `images`", arrays["images"]), decoding, cache)

    def _rows(self, source: Source, hashes: Mapping[str, Hashes]) -> tuple[dict[str, Rows], tuple[str, ...]]:
        """The rows of each part that each split takes, and notes on what was left out."""
        ids = {part: ids_of(found) for part, found in hashes.items()}
        given = {"test": self.test, "validation": self.validation, "calibration": self.calibration}
        for split in ("validation", "test"):
            if split in source.parts and given[split] is not None:
                raise DataError(
                    f"`{split}: {given[split]}` asks to take it from the training data, but {source.name} has a "
                    f"{split} split of its own; leave `{split}` out"
                )
        notes = []
        rows: dict[str, Rows] = {}
        seen = np.empty(0, np.uint64)
        # What stands first keeps a sample that several have: a result must never be too good.
        for part in ("test", "validation", "train"):
            if part in source.parts:
                fresh = ~np.isin(ids[part], seen)
                rows[part] = np.flatnonzero(fresh)
                seen = np.concatenate([seen, ids[part]])
                if len(rows[part]) < len(fresh):
                    dropped = len(fresh) - len(rows[part])
                    notes.append(f"{dropped} of {len(fresh)} {part} images are also held out, and were left out")
        pool = rows["train"]
        if not len(pool):
            raise DataError(f"{source.name}: every training image is also in the validation or test split")
        assert source.train.targets is not None, "sources are labelled"
        wanted = {
            split: _amount(given[split], len(pool), *default)
            for split, default in _DEFAULT_AMOUNTS.items()
            if split not in source.parts
        }
        carved = carve(ids["train"][pool], source.train.targets[pool], wanted, self.split_seed)
        rows.update({split: pool[selected] for split, selected in carved.items()})
        if "transfer" in ids:
            _, first = np.unique(ids["transfer"], return_index=True)
            rows["transfer"] = np.sort(first[~np.isin(ids["transfer"][first], seen)])
            dropped = len(ids["transfer"]) - len(rows["transfer"])
            if dropped:
                notes.append(f"{dropped} transfer images are copies of others, and were left out")
            if not len(rows["transfer"]):
                raise DataError("`transfer`: every image is in another split already; leave it out")
        order = ("train", "transfer", "calibration", "validation", "test")
        return {split: rows[split] for split in order if split in rows}, tuple(notes)


def _amount(given: int | float | None, pool: int, share: float, most: int) -> int:
    if isinstance(given, int):
        return given
    wanted = round(pool * (share if given is None else given))
    return max(1, wanted if given is not None else min(wanted, most))


def _require_one_shape(name: str, images: Mapping[str, Images]) -> None:
    shapes = {part: list(inputs.shape[1:]) for part, inputs in images.items()}
    for part, shape in shapes.items():
        if shape != shapes["train"]:
            raise DataError(
                f"{name}: images are {shapes['train']} (height, width, channels) in train, but {shape} in {part}; "
                "give `size` and `channels`"
            )


def _check_classes(splits: Mapping[str, Split], labels: tuple[str, ...]) -> None:
    if len(labels) < 2:
        raise DataError(f"there must be at least two classes, but got {list(labels)}")
    train = splits["train"].targets
    assert train is not None, "sources are labelled"
    require_every_class(train, labels, "train")


def _split(name: str, inputs: Images, targets: Targets | None, hashes: Hashes) -> Split:
    digest = sha256(f"{inputs.dtype} {inputs.shape}".encode())
    digest.update(np.ascontiguousarray(hashes).data)
    if targets is not None:
        digest.update(np.ascontiguousarray(targets, "<i8").data)
    return Split(name, inputs, targets, ids_of(hashes), digest.hexdigest())


def _preprocessing(train: Images, decoding: Decoding) -> ImagePreprocessing:
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
    )
