"""Where each split's samples come from: a part of the source that has it apart, or rows carved from the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import AfterValidator

from compresslab.data.splits import Rows, carve
from compresslab.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from compresslab.data.arrays import Targets
    from compresslab.data.identity import Ids

# Share of the pool, and at most this many: what a split takes when nothing is said.
_DEFAULT_AMOUNTS = {"test": (0.15, 10_000), "validation": (0.1, 5_000), "calibration": (0.05, 1_000)}
_ORDER = ("train", "transfer", "calibration", "validation", "test")
_SHOWN = 5
# Parts that users give without labels, and what they are called in a task's settings.
_UNLABELLED = {"calibration": "calibration_data", "transfer": "transfer"}


def _positive_or_share(value: int | float) -> int | float:
    if isinstance(value, int) and value < 1:
        raise ValueError(f"`1 <= samples` must hold for a whole number, but got {value}")
    if isinstance(value, float) and not 0 < value < 1:
        raise ValueError(f"`0 < share < 1` must hold for a fraction, but got {value}; write a number of samples whole")
    return value


Amount = Annotated[int | float, AfterValidator(_positive_or_share)]
"""A number of samples, or a share of the samples that are split."""


@dataclass(frozen=True)
class Place:
    """Where a split's samples are: which part of the source, and which rows of it, in the source's own order.

    `size` is how many rows that part has.
    """

    part: str
    rows: Rows
    size: int


def places(
    source: str,
    ids: Mapping[str, Ids],
    strata: Targets,
    wanted: Mapping[str, Amount | None],
    seed: int,
    noun: str = "images",
    together: Ids | None = None,
) -> tuple[dict[str, Place], tuple[str, ...]]:
    """The place of each split, no content in two of them; and notes on what was left out.

    Args:
        source: What to call it in errors.
        ids: Content ids of each part: `train`, and perhaps `validation`, `test`, `calibration` and `transfer`.
        strata: Groups of the training samples [n], of which every carved split gets its share.
        wanted: How much `validation`, `calibration` and `test` should have; None for the usual amount.
        seed: Another one gives other splits.
        noun: What samples are called in errors and notes.
        together: For each training sample a number of what no two splits may share [n], where that is more than copies
            of one sample.

    Raises:
        DataError: A split that the source has apart is asked for again, `transfer` or `calibration_data` has samples
            that results are reported on, or the samples do not suffice.
    """
    if "calibration" in ids and wanted.get("calibration") is not None:
        raise DataError(
            f"`calibration: {wanted['calibration']}` asks to take it from the training data, but `calibration_data` "
            "gives it; leave one of them out"
        )
    for split in ("validation", "test"):
        if split in ids and wanted.get(split) is not None:
            raise DataError(
                f"`{split}: {wanted[split]}` asks to take it from the training data, but {source} has a {split} split "
                f"of its own; leave `{split}` out"
            )
    notes = []
    found: dict[str, Place] = {}
    seen = np.empty(0, np.uint64)
    # What stands first keeps a sample that several have: a result must never be too good.
    for part in ("test", "validation", "train"):
        if part in ids:
            fresh = ~np.isin(ids[part], seen)
            found[part] = Place(part, np.flatnonzero(fresh), len(fresh))
            seen = np.concatenate([seen, ids[part]])
            if not fresh.all():
                dropped = int((~fresh).sum())
                notes.append(f"{dropped} of {len(fresh)} {part} {noun} are also held out, and were left out")
    if "validation" in found and not len(found["validation"].rows):
        raise DataError(f"{source}: every validation {_one(noun)} is also in the test split; give others")
    pool = found["train"].rows
    if not len(pool):
        raise DataError(f"{source}: every training {_one(noun)} is also in the validation or test split")
    amounts = {
        split: _amount(wanted.get(split), len(pool), *default)
        for split, default in _DEFAULT_AMOUNTS.items()
        if split not in ids
    }
    carved = carve((ids["train"] if together is None else together)[pool], strata[pool], amounts, seed)
    found.update({split: Place("train", pool[rows], len(ids["train"])) for split, rows in carved.items()})
    for part, key in _UNLABELLED.items():
        if part in ids:
            found[part], dropped = _unlabelled(part, key, ids, found, noun)
            if dropped:
                notes.append(f"{dropped} {part} {noun} are copies of others, and were left out")
    return {split: found[split] for split in _ORDER if split in found}, tuple(notes)


def _unlabelled(
    part: str, key: str, ids: Mapping[str, Ids], found: Mapping[str, Place], noun: str
) -> tuple[Place, int]:
    """Samples that are in no other split, each once; and how many were left out for that.

    For calibration they come in the order of their hashes, which is random and the same every time: of a folder that is
    sorted by class, the first few hundred would be of one.
    """
    given = ids[part]
    for split in ("test", "validation"):
        place = found[split]
        rows = np.flatnonzero(np.isin(given, ids[place.part][place.rows]))
        if len(rows):
            first = ", ".join(str(row) for row in rows[:_SHOWN])
            raise DataError(
                f"`{key}`: {len(rows)} of {len(given)} {noun} are also in the {split} split (the first, counted "
                f"from 0: {first}), so results on it would be too good; take these out of `{key}`"
            )
    _, first_rows = np.unique(given, return_index=True)
    taken = [ids["train"], *(ids[place.part][place.rows] for place in found.values())]
    fresh = first_rows[~np.isin(given[first_rows], np.concatenate(taken))]
    rows = fresh if part == "calibration" else np.sort(fresh)
    if not len(rows):
        raise DataError(f"`{key}`: every {_one(noun)} is in another split already; leave it out")
    return Place(part, rows, len(given)), len(given) - len(rows)


def _one(noun: str) -> str:
    return noun.removesuffix("s")


def _amount(given: int | float | None, pool: int, share: float, most: int) -> int:
    if isinstance(given, int):
        return given
    wanted = round(pool * (share if given is None else given))
    return max(1, wanted if given is not None else min(wanted, most))
