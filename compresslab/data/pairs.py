"""Images and texts in groups as plain arrays: of tables, or of a function of the user's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from compresslab.data.arrays import checked_images
from compresslab.data.decoding import Files, decode, listing_digest
from compresslab.data.features import checked_features
from compresslab.data.pair_tables import PairTable, read_pairs
from compresslab.errors import DataError, did_you_mean
from compresslab.user_code import call

if TYPE_CHECKING:
    from pathlib import Path

    from compresslab.data.decoding import Decoding
    from compresslab.measure.preprocessing import Samples

IMAGES, TEXTS = "image", "text"
"""The two sides, by the names of the towers that read them."""

_KEYS = ("images", "image_groups", "texts", "text_groups")
_BENCHMARKS = "benchmarks"
_SHOWN = 5


@dataclass(frozen=True)
class Side:
    """Samples of one kind [n, ...], and the number of each one's group [n]: any whole numbers from 0."""

    inputs: Samples
    groups: npt.NDArray[np.int64]


@dataclass(frozen=True)
class PairSource:
    """What a place held.

    Args:
        name: What to call it.
        parts: By part, `train` and perhaps `validation` and `test`, and by side.
        benchmarks: By name and side.
        transfer: Samples without a partner, by side.
    """

    name: str
    parts: Mapping[str, Mapping[str, Side]]
    benchmarks: Mapping[str, Mapping[str, Side]] = field(default_factory=dict)
    transfer: Mapping[str, Samples] = field(default_factory=dict)


def from_tables(path: Path, benchmarks: Mapping[str, Path], decoding: Decoding, cache: Path) -> PairSource:
    """A table of pairs, and one for each benchmark, their images decoded.

    Raises:
        DataError: A table or an image is missing or broken.
    """
    parts = {split: _sides(path, table, decoding, cache) for split, table in read_pairs(path).items()}
    beside = {}
    for name, one in benchmarks.items():
        tables = read_pairs(one)
        if len(tables) > 1:
            raise DataError(f"{one}: a benchmark is reported on whole; leave its column `split` out")
        beside[name] = _sides(one, tables["train"], decoding, cache)
    return PairSource(path.stem, parts, beside)


def from_function(reference: str) -> PairSource:
    """Calls `module:function` without arguments.

    It returns a mapping with `images` (uint8 [n, height, width, channels]), `image_groups` (whole numbers [n]), `texts`
    [m] and `text_groups` [m]; perhaps the same with `validation_` and `test_` before their names; perhaps
    `transfer_images` and `transfer_texts`, which have no partner; and perhaps `benchmarks`, by name a mapping with the
    four.

    Raises:
        BadInput: The function cannot be found or fails.
        DataError: What it returns is something else.
    """
    found = call(reference, {})
    if not isinstance(found, Mapping):
        raise DataError(f"{reference}: returned a {type(found).__name__}; return a mapping with {_listed(_KEYS)}")
    prefixes = {"train": "", "validation": "validation_", "test": "test_"}
    allowed = [f"{prefix}{key}" for prefix in prefixes.values() for key in _KEYS]
    allowed += [_BENCHMARKS, *_TRANSFER]
    for key in found:
        if key not in allowed:
            hint = did_you_mean(str(key), allowed)
            raise DataError(f"{reference}: unknown part `{key}`{hint} (allowed: {', '.join(allowed)})")
    parts = {}
    for part, prefix in prefixes.items():
        given = {key: found[f"{prefix}{key}"] for key in _KEYS if f"{prefix}{key}" in found}
        if given or part == "train":
            parts[part] = _given(f"{reference}: {part}", given)
    benchmarks = found.get(_BENCHMARKS, {})
    if not isinstance(benchmarks, Mapping):
        raise DataError(f"{reference}: `{_BENCHMARKS}` must be a mapping, but is a {type(benchmarks).__name__}")
    beside = {str(name): _given(f"{reference}: {_BENCHMARKS}.{name}", one) for name, one in benchmarks.items()}
    unpaired: dict[str, Samples] = {}
    for key, (side, checked) in _TRANSFER.items():
        if key in found:
            unpaired[side] = checked(f"{reference}: `{key}`", found[key])
    return PairSource(reference.rpartition(":")[2], parts, beside, unpaired)


def require_partners(where: str, sides: Mapping[str, Side]) -> None:
    """Refuses groups that have samples of one side only.

    Raises:
        DataError: Says how many, and the first of them.
    """
    for side, other in ((IMAGES, TEXTS), (TEXTS, IMAGES)):
        lonely = np.flatnonzero(~np.isin(sides[side].groups, sides[other].groups))
        if len(lonely):
            groups = np.unique(sides[side].groups[lonely])
            shown = ", ".join(str(group) for group in groups[:_SHOWN]) + (", ..." if len(groups) > _SHOWN else "")
            raise DataError(
                f"{where}: {len(lonely)} {side}s have no {other} of their group (groups {shown}), so they have no "
                "partner; leave them out, or give them as `transfer`"
            )


def _sides(path: Path, table: PairTable, decoding: Decoding, cache: Path) -> dict[str, Side]:
    from compresslab.measure.text_preprocessing import as_texts

    paths = table.images
    files = Files(
        count=len(paths),
        part=lambda start, stop: paths[start:stop],
        name=lambda index: f"{table.image_place(index)}: {paths[index]}",
        digest=listing_digest(sorted(set(paths)), path.parent) + "".join(str(one) for one in paths),
    )
    images = decode(files, decoding, cache)
    return {IMAGES: Side(images, table.image_groups), TEXTS: Side(as_texts(table.texts), table.text_groups)}


def _given(where: str, found: Any) -> dict[str, Side]:
    if not isinstance(found, Mapping) or set(found) != set(_KEYS):
        there = ", ".join(f"`{key}`" for key in found) if isinstance(found, Mapping) else "nothing"
        raise DataError(f"{where}: must have {_listed(_KEYS)}, but has {there or 'nothing'}")
    images = checked_images(f"{where}: `images`", found["images"])
    texts = _texts(f"{where}: `texts`", found["texts"])
    sides = {
        IMAGES: Side(images, _groups(f"{where}: `image_groups`", found["image_groups"], len(images))),
        TEXTS: Side(texts, _groups(f"{where}: `text_groups`", found["text_groups"], len(texts))),
    }
    require_partners(where, sides)
    return sides


def _texts(where: str, given: Any) -> Samples:
    """Strings; or rows of features, for a tower that reads texts that were made into numbers elsewhere."""
    if isinstance(given, np.ndarray) and given.dtype.kind == "f":
        return checked_features(where, given)
    from compresslab.data.text_rows import returned_texts

    return returned_texts(where, given)


_TRANSFER: Mapping[str, tuple[str, Callable[[str, Any], Samples]]] = {
    "transfer_images": (IMAGES, checked_images),
    "transfer_texts": (TEXTS, _texts),
}


def _groups(where: str, given: Any, count: int) -> npt.NDArray[np.int64]:
    groups = np.asarray(given)
    if groups.dtype.kind not in "iu" or groups.shape != (count,) or groups.min() < 0:
        raise DataError(
            f"{where}: must be {count} whole numbers from 0, one for each sample, but are {groups.dtype} "
            f"{list(groups.shape)}"
        )
    return groups.astype(np.int64)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
