"""Labelled images as plain arrays, checked once where they enter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from compresslab.errors import DataError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

Images = npt.NDArray[np.uint8]
Targets = npt.NDArray[np.int64]

KEYS = (
    "images", "labels", "validation_images", "validation_labels", "test_images", "test_labels", "label_names",
)  # fmt: skip
"""The names of a data set's parts, in an .npz file and in what a user's function returns."""

_SHOWN = 5


@dataclass(frozen=True)
class Arrays:
    """Images [n, h, w, c] and, for each, the index of its label in `labels`; None where they have no labels."""

    inputs: Images
    targets: Targets | None
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Source:
    """What a place held: `train` is what the other splits are carved from, unless the place had them apart."""

    name: str
    train: Arrays
    validation: Arrays | None = None
    test: Arrays | None = None

    @property
    def parts(self) -> dict[str, Arrays]:
        """The parts that are there, by name."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: part for name, part in parts.items() if part is not None}


def source_from(where: str, name: str, parts: Mapping[str, Any]) -> Source:
    """A source from arrays under the names in `KEYS`; only `images` and `labels` must be there.

    Args:
        where: What to call the place in errors.
        name: What to call the data set.
        parts: Arrays or nested lists. Without `label_names`, labels are called "0", "1", ...

    Raises:
        DataError: A part is missing, unknown, or not what it must be.
    """
    for key in parts:
        if key not in KEYS:
            raise DataError(f"{where}: unknown part `{key}`{did_you_mean(key, KEYS)} Allowed are {', '.join(KEYS)}")
    for key in ("images", "labels"):
        if key not in parts:
            found = ", ".join(f"`{key}`" for key in parts) or "nothing"
            raise DataError(f"{where}: `{key}` is missing; found {found}")
    names = _label_names(where, parts)
    arrays = {
        split: labelled(f"{where}: `{prefix}images`", parts[f"{prefix}images"], parts.get(f"{prefix}labels"), names)
        for split, prefix in (("train", ""), ("validation", "validation_"), ("test", "test_"))
        if f"{prefix}images" in parts
    }
    return Source(name, arrays["train"], arrays.get("validation"), arrays.get("test"))


def labelled(where: str, images: Any, labels: Any, names: tuple[str, ...]) -> Arrays:
    """Checks images and their labels, and gives both their one form.

    Raises:
        DataError: They do not fit each other or `names`.
    """
    inputs = checked_images(where, images)
    if labels is None:
        raise DataError(f"{where}: has no labels")
    targets = np.asarray(labels)
    if targets.dtype.kind not in "iu" or targets.ndim != 1:
        remedy = "; use `argmax(axis=1)`" if targets.ndim == 2 and targets.shape[1] > 1 else ""
        raise DataError(
            f"{where}: labels must be whole numbers of shape [n], but are {targets.dtype} of shape "
            f"{list(targets.shape)}{remedy}"
        )
    if len(targets) != len(inputs):
        raise DataError(f"{where}: {len(inputs)} images, but {len(targets)} labels")
    outside = np.flatnonzero((targets < 0) | (targets >= len(names)))
    if len(outside):
        raise DataError(
            f"{where}: `0 <= label < {len(names)}` must hold, but {_listed(outside, targets)}; there are {len(names)} "
            f"label names"
        )
    return Arrays(inputs, targets.astype(np.int64), names)


def checked_images(where: str, images: Any) -> Images:
    """Images as uint8 [n, h, w, c] with 1 or 3 channels; grey ones may come as [n, h, w].

    Raises:
        DataError: They are anything else; the message says how to convert them.
    """
    array = np.asarray(images)
    if array.dtype != np.uint8:
        raise DataError(f"{where}: images must be uint8, 0 to 255, but are {array.dtype}{_conversion(array)}")
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or array.shape[3] not in (1, 3):
        first = array.ndim == 4 and array.shape[1] in (1, 3)
        remedy = "; channels come last: use `images.transpose(0, 2, 3, 1)`" if first else ""
        raise DataError(
            f"{where}: images must have shape [n, h, w], [n, h, w, 1] or [n, h, w, 3], but have "
            f"{list(array.shape)}{remedy}"
        )
    if array.size == 0:
        raise DataError(f"{where}: there are no images (shape {list(array.shape)})")
    return array


def _label_names(where: str, parts: Mapping[str, Any]) -> tuple[str, ...]:
    given = parts.get("label_names")
    if given is not None:
        names = tuple(str(name) for name in np.asarray(given).tolist())
        double = sorted({name for name in names if names.count(name) > 1})
        if double:
            raise DataError(f"{where}: `label_names` has {', '.join(f'`{name}`' for name in double)} more than once")
        return names
    highest = -1
    for key in ("labels", "validation_labels", "test_labels"):
        found = np.asarray(parts.get(key, ()))
        if found.dtype.kind in "iu" and found.size:
            highest = max(highest, int(found.max()))
    return tuple(str(index) for index in range(highest + 1))


def _conversion(array: npt.NDArray[Any]) -> str:
    if array.dtype.kind == "f" and array.size:
        broken = ~np.isfinite(array).reshape(len(array), -1).all(axis=1)
        if broken.any():
            first = ", ".join(str(index) for index in np.flatnonzero(broken)[:_SHOWN])
            return f", and {int(broken.sum())} of them hold NaN or infinity (the first: {first}); leave those out"
        if array.min() >= 0 and array.max() <= 1:
            return "; use `(images * 255).round().astype(numpy.uint8)`"
    if array.dtype.kind in "fiu" and array.size and array.min() >= 0 and array.max() <= 255:
        return "; use `images.astype(numpy.uint8)`"
    return "; normalisation is computed from the training split and belongs to the model's preprocessing"


def _listed(rows: npt.NDArray[np.intp], values: npt.NDArray[Any]) -> str:
    shown = ", ".join(f"labels[{row}] = {values[row]}" for row in rows[:_SHOWN])
    return shown if len(rows) <= _SHOWN else f"{shown} and {len(rows) - _SHOWN} more"
