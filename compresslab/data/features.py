"""Rows of features with a number each, as plain arrays, checked once where they enter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from compresslab.data.npz import read_arrays
from compresslab.errors import DataError, did_you_mean
from compresslab.user_code import call

if TYPE_CHECKING:
    from pathlib import Path

Features = npt.NDArray[np.float32]
Scores = npt.NDArray[np.float32]

FEATURE_KEYS = (
    "features", "targets", "validation_features", "validation_targets", "test_features", "test_targets",
)  # fmt: skip
"""The names of a table's parts, in an .npz file and in what a user's function returns."""

_SHOWN = 5


@dataclass(frozen=True)
class Table:
    """Features [n, d], and the number [n] that belongs to each row."""

    inputs: Features
    targets: Scores


@dataclass(frozen=True)
class TableSource:
    """What a place held: `train` is what the other splits are carved from, unless the place had them apart."""

    name: str
    train: Table
    validation: Table | None = None
    test: Table | None = None

    @property
    def parts(self) -> dict[str, Table]:
        """The parts that are there, by name."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: part for name, part in parts.items() if part is not None}


def load_table_npz(path: Path) -> TableSource:
    """The arrays `features` and `targets`, and those of `FEATURE_KEYS` that are there. Nothing pickled is read.

    Raises:
        DataError: The file is missing, damaged, or holds something else.
    """
    return table_source(str(path), path.stem, read_arrays(path))


def load_table_python(reference: str) -> TableSource:
    """Calls `module:function` without arguments; it returns a mapping with the names in `FEATURE_KEYS`.

    Raises:
        BadInput: The function cannot be found or fails.
        DataError: What it returns is not a table.
    """
    found = call(reference, {})
    if not isinstance(found, Mapping):
        raise DataError(
            f"{reference}: returned a {type(found).__name__}; return a mapping with `features` and `targets` "
            f"(allowed: {', '.join(FEATURE_KEYS)})"
        )
    return table_source(reference, reference.rpartition(":")[2], found)


def table_source(where: str, name: str, parts: Mapping[str, Any]) -> TableSource:
    """A source from arrays under the names in `FEATURE_KEYS`; only `features` and `targets` must be there.

    Args:
        where: What to call the place in errors.
        name: What to call the data set.
        parts: Arrays or nested lists.

    Raises:
        DataError: A part is missing, unknown, or not what it must be.
    """
    for key in parts:
        if key not in FEATURE_KEYS:
            raise DataError(
                f"{where}: unknown part `{key}`{did_you_mean(key, FEATURE_KEYS)} (allowed: {', '.join(FEATURE_KEYS)})"
            )
    for key in ("features", "targets"):
        if key not in parts:
            raise DataError(f"{where}: `{key}` is missing; found {', '.join(f'`{one}`' for one in parts) or 'nothing'}")
    tables = {}
    for split, prefix in (("train", ""), ("validation", "validation_"), ("test", "test_")):
        features, targets = f"{prefix}features", f"{prefix}targets"
        if (features in parts) != (targets in parts):
            given, missing = (features, targets) if features in parts else (targets, features)
            raise DataError(f"{where}: there is `{given}`, but no `{missing}`; give both, or neither")
        if features in parts:
            inputs = checked_features(f"{where}: `{features}`", parts[features])
            tables[split] = Table(inputs, checked_targets(f"{where}: `{targets}`", parts[targets], len(inputs)))
    for split, table in tables.items():
        require_width(f"{where}: `{split}_features`", table.inputs, tables["train"].inputs.shape[1])
    return TableSource(name, tables["train"], tables.get("validation"), tables.get("test"))


def unlabelled_features(path: Path, width: int) -> Features:
    """The array `features` of an .npz file, of the training data's width.

    Raises:
        DataError: The file is missing, damaged, or holds something else.
    """
    arrays = read_arrays(path)
    if "features" not in arrays:
        raise DataError(f"{path}: has no `features`; found {', '.join(f'`{name}`' for name in arrays) or 'nothing'}")
    features = checked_features(f"{path}: `features`", arrays["features"])
    require_width(f"{path}: `features`", features, width)
    return features


def checked_features(where: str, features: Any) -> Features:
    """Features as float32 [n, d], C-contiguous.

    Raises:
        DataError: They are anything else, or hold NaN or infinity; the message says how to mend it.
    """
    array = np.asarray(features)
    if array.dtype != np.float32:
        remedy = "; use `features.astype(numpy.float32)`" if array.dtype.kind in "fiu" else ""
        if array.dtype.kind == "O":
            remedy = "; give a dense array of numbers (of a sparse matrix, `matrix.toarray()`)"
        raise DataError(f"{where}: features must be float32, but are {array.dtype}{remedy}")
    if array.ndim != 2:
        remedy = ""
        if array.ndim == 1:
            remedy = "; for one feature a sample use `features[:, numpy.newaxis]`"
        elif array.ndim > 2:
            remedy = "; use `features.reshape(len(features), -1)`"
        raise DataError(f"{where}: features must have shape [n, d], but have {list(array.shape)}{remedy}")
    if array.size == 0:
        raise DataError(f"{where}: there are no features (shape {list(array.shape)})")
    _require_finite(where, array, "rows")
    # Zero is written in two ways, which would be two contents.
    return np.ascontiguousarray(array + np.float32(0.0))


def checked_targets(where: str, targets: Any, samples: int) -> Scores:
    """Targets as float32 [n].

    Raises:
        DataError: They are anything else, hold NaN or infinity, or are not one for each sample.
    """
    array = np.asarray(targets)
    if array.dtype.kind not in "fiu" or array.ndim != 1:
        remedy = "; use `targets[:, 0]`" if array.ndim == 2 and array.shape[1] == 1 else ""
        raise DataError(
            f"{where}: targets must be numbers of shape [n], but are {array.dtype} of shape {list(array.shape)}{remedy}"
        )
    if len(array) != samples:
        raise DataError(f"{where}: {samples} rows of features, but {len(array)} targets")
    with np.errstate(over="ignore"):
        scores = array.astype(np.float32)
    _require_finite(where, scores, "targets")
    return scores


def require_width(where: str, features: Features, width: int) -> None:
    """Refuses features of another width than those of the training data.

    Raises:
        DataError: It differs.
    """
    if features.shape[1] != width:
        raise DataError(
            f"{where}: {features.shape[1]} features a sample, but the training data has {width}; compute them alike"
        )


def _require_finite(where: str, array: npt.NDArray[np.float32], noun: str) -> None:
    broken = np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(axis=1))
    if len(broken):
        first = ", ".join(str(row) for row in broken[:_SHOWN])
        raise DataError(
            f"{where}: {len(broken)} of {len(array)} {noun} hold NaN or infinity, or are too large for float32 (the "
            f"first: {first}); leave those samples out, or fill in what is missing"
        )
