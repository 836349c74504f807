"""Samples in groups of queries and documents, or in scored pairs, as plain arrays; checked where they enter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from compresslab.data.features import checked_features, checked_targets, require_width
from compresslab.data.npz import read_arrays
from compresslab.errors import DataError, did_you_mean

if TYPE_CHECKING:
    from pathlib import Path

    from compresslab.measure.preprocessing import Samples

_PARTS = {"train": "", "validation": "validation_", "test": "test_"}
GROUPED_KEYS = tuple(f"{prefix}{name}" for prefix in _PARTS.values() for name in ("features", "groups", "scores"))
"""The names of the parts of an .npz file; `scores` take the place of `groups` where results are of scored pairs."""


@dataclass(frozen=True)
class Grouped:
    """Samples [n, ...], and what belongs to them [n].

    Targets are int64 groups (a document of group g >= 0 has g, a query of it -(g + 1)), float32 scores of pairs (rows
    2i and 2i + 1 are pair i, and both have its score), or None for samples that can only be distilled.
    """

    inputs: Samples
    targets: npt.NDArray[np.int64] | npt.NDArray[np.float32] | None


def load_grouped_npz(path: Path) -> dict[str, Grouped]:
    """The parts `train`, `validation` and `test` that an .npz file of features has. Nothing pickled is read.

    Raises:
        DataError: The file is missing, damaged, or holds something else.
    """
    arrays = read_arrays(path)
    for key in arrays:
        if key not in GROUPED_KEYS:
            raise DataError(
                f"{path}: unknown part `{key}`{did_you_mean(key, GROUPED_KEYS)} (allowed: {', '.join(GROUPED_KEYS)})"
            )
    if "features" not in arrays:
        raise DataError(f"{path}: has no `features`; found {', '.join(f'`{name}`' for name in arrays) or 'nothing'}")
    found = {}
    for part, prefix in _PARTS.items():
        named = {name: arrays.get(f"{prefix}{name}") for name in ("features", "groups", "scores")}
        if named["features"] is None:
            lost = next((name for name in ("groups", "scores") if named[name] is not None), None)
            if lost is not None:
                raise DataError(f"{path}: there is `{prefix}{lost}`, but no `{prefix}features`; give both, or neither")
            continue
        found[part] = _grouped(str(path), prefix, named)
    for part, one in found.items():
        require_width(f"{path}: `{part}`", _features(one), _features(found["train"]).shape[1])
    return found


def checked_groups(where: str, groups: Any, samples: int) -> npt.NDArray[np.int64]:
    """Groups as int64 [n].

    Raises:
        DataError: They are anything else, or not one for each sample.
    """
    array = np.asarray(groups)
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise DataError(
            f"{where}: groups must be whole numbers of shape [n] (g for a document of group g, -(g + 1) for a query of "
            f"it), but are {array.dtype} of shape {list(array.shape)}"
        )
    if len(array) != samples:
        raise DataError(f"{where}: {samples} samples, but {len(array)} groups")
    return array.astype(np.int64)


def _grouped(where: str, prefix: str, named: Mapping[str, Any]) -> Grouped:
    inputs = checked_features(f"{where}: `{prefix}features`", named["features"])
    if named["groups"] is not None and named["scores"] is not None:
        raise DataError(f"{where}: there are both `{prefix}groups` and `{prefix}scores`; give what the metric reads")
    if named["groups"] is not None:
        return Grouped(inputs, checked_groups(f"{where}: `{prefix}groups`", named["groups"], len(inputs)))
    if named["scores"] is not None:
        return Grouped(inputs, checked_targets(f"{where}: `{prefix}scores`", named["scores"], len(inputs)))
    return Grouped(inputs, None)


def _features(part: Grouped) -> npt.NDArray[np.float32]:
    return np.asarray(part.inputs, np.float32)
