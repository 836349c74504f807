"""Groups of images and texts into splits: what belongs together is in one, and no sample is in two."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from compresslab.data.grouping import connected
from compresslab.data.identity import ids_of, sample_hashes
from compresslab.data.pairs import IMAGES, TEXTS, PairSource, Side, require_partners
from compresslab.data.splits import carve
from compresslab.digest import digest_of
from compresslab.errors import DataError
from compresslab.measure.metric_names import BOTH_WAYS
from compresslab.tasks.benchmark import content_digest
from compresslab.tasks.places import Amount
from compresslab.tasks.task import Split
from compresslab.tasks.towers_task import Pairs

if TYPE_CHECKING:
    import numpy.typing as npt

    from compresslab.data.identity import Hashes
    from compresslab.measure.preprocessing import Samples

    Rows = npt.NDArray[np.int64]
    Sides = Mapping[str, Side]

AMOUNTS = {"test": (0.15, 10_000), "validation": (0.1, 5_000), "calibration": (0.05, 1_000)}
"""Share of the groups, and at most this many: what a split takes when nothing is said."""


class PairedSplits:
    """Groups into splits, no image and no text in two of them.

    Args:
        name: What to call the source in errors.
        source: Where all images are of one shape.
        transfer: Samples without a partner, by side.
    """

    def __init__(self, name: str, source: PairSource, transfer: Mapping[str, Samples]) -> None:
        self._name, self._transfer = name, transfer
        self._hashes = {part: _hashed(sides) for part, sides in source.parts.items()}
        self.notes: list[str] = []
        self._parts = {part: self._merged(part, sides) for part, sides in source.parts.items()}
        self._benchmarks = source.benchmarks

    def splits(self, wanted: Mapping[str, Amount | None], seed: int) -> dict[str, dict[str, Split]]:
        """By name and side.

        Args:
            wanted: Of each split that may be carved from the training groups how much; None for its usual amount.
            seed: Another one gives other splits.

        Raises:
            DataError: Nothing is left to train on, or a split is asked for that the source has.
        """
        kept = self._without_held_out()
        groups = np.unique(self._parts["train"][IMAGES].groups[kept[IMAGES]])
        groups = groups[np.isin(groups, self._parts["train"][TEXTS].groups[kept[TEXTS]])]
        if not len(groups):
            raise DataError(f"{self._name}: every training pair is also in the validation or test split")
        amounts = {}
        for split, (share, most) in AMOUNTS.items():
            given = wanted[split]
            if split in self._parts and given is not None:
                raise DataError(
                    f"`{split}: {given}` asks to take it from the training data, but {self._name} has a {split} split "
                    f"of its own; leave `{split}` out"
                )
            if split not in self._parts:
                amounts[split] = given if isinstance(given, int) else max(1, round(len(groups) * (given or share)))
                amounts[split] = amounts[split] if given is not None else min(amounts[split], most)
        carved = carve(self._first_ids(groups), np.zeros(len(groups), np.int64), amounts, seed)
        made = {
            split: {side: self._made(split, "train", side, np.isin(self._groups("train", side), groups[rows])
                                     & kept[side]) for side in (IMAGES, TEXTS)}
            for split, rows in carved.items()
        }  # fmt: skip
        for split in ("validation", "test"):
            if split in self._parts:
                made[split] = {side: self._made(split, split, side, None) for side in (IMAGES, TEXTS)}
        for side, samples in self._transfer.items():
            made.setdefault("transfer", {})[side] = self._unpaired(side, samples, made)
        return made

    def benchmark(self, key: str, sides: Sides, metric: str) -> Pairs:
        """Other pairs that results are reported on."""
        require_partners(f"`benchmarks.{key}`", sides)
        hashes = _hashed(sides)
        digest = digest_of([content_digest(one.inputs, one.groups, hashes[side]) for side, one in sides.items()])
        numbered = _numbered({side: one.groups for side, one in sides.items()})
        return Pairs.of({s: one.inputs for s, one in sides.items()}, numbered, f"{BOTH_WAYS}{metric}", digest)

    def seen_before(self, splits: Mapping[str, Mapping[str, Split]]) -> list[str]:
        """Notes on benchmarks whose samples are also trained on."""
        notes = []
        for key, sides in self._benchmarks.items():
            for side, one in sides.items():
                shared = int(np.isin(ids_of(sample_hashes(one.inputs)), splits["train"][side].ids).sum())
                if shared:
                    notes.append(f"`{key}`: {shared} of {len(one.inputs)} {side}s are also in the training split")
        return notes

    def _groups(self, part: str, side: str) -> Rows:
        return self._parts[part][side].groups

    def _merged(self, part: str, sides: Sides) -> Sides:
        """Groups that share an image or a text are one: no split may have what another has."""
        groups = np.concatenate([one.groups for one in sides.values()])
        hashes = np.concatenate([self._hashes[part][side] for side in sides])
        _, content = np.unique(hashes, axis=0, return_inverse=True)
        _, number = np.unique(groups, return_inverse=True)
        found = connected(number.ravel().tolist(), content.ravel().tolist())
        fewer = len(np.unique(groups)) - len(np.unique(found))
        if not fewer:
            return sides
        self.notes.append(
            f"{fewer} {part} groups share an image or a text with others, and were taken for one with them"
        )
        ends = np.cumsum([len(one.groups) for one in sides.values()])[:-1]
        return {
            side: Side(one.inputs, its) for (side, one), its in zip(sides.items(), np.split(found, ends), strict=True)
        }

    def _without_held_out(self) -> dict[str, npt.NDArray[np.bool_]]:
        """Which training samples are in no split that the source has apart."""
        kept = {}
        for side in (IMAGES, TEXTS):
            own = ids_of(self._hashes["train"][side])
            held = [ids_of(self._hashes[part][side]) for part in ("validation", "test") if part in self._parts]
            kept[side] = ~np.isin(own, np.concatenate(held)) if held else np.ones(len(own), np.bool_)
            dropped = int((~kept[side]).sum())
            if dropped:
                self.notes.append(f"{dropped} of {len(own)} training {side}s are also held out, and were left out")
        return kept

    def _first_ids(self, groups: Rows) -> npt.NDArray[np.uint64]:
        """For each group a number that depends on its content alone."""
        ids, own = ids_of(self._hashes["train"][IMAGES]), self._groups("train", IMAGES)
        order = np.lexsort((ids, own))
        first = np.searchsorted(own[order], groups)
        return np.asarray(ids[order][first], np.uint64)

    def _made(self, split: str, part: str, side: str, chosen: npt.NDArray[np.bool_] | None) -> Split:
        whole, hashes = self._parts[part][side], self._hashes[part][side]
        rows = np.arange(len(whole.inputs)) if chosen is None else np.flatnonzero(chosen)
        # In a random order that content alone decides, so that any first part is a fair sample.
        rows = rows[np.lexsort((rows, ids_of(hashes[rows])))]
        inputs, groups, own = whole.inputs[rows], whole.groups[rows], hashes[rows]
        digest = content_digest(inputs, groups, own)
        return Split(split, inputs, groups, ids_of(own), digest, part, rows, len(whole.inputs))

    def _unpaired(self, side: str, samples: Samples, made: Mapping[str, Mapping[str, Split]]) -> Split:
        hashes = sample_hashes(samples)
        ids = ids_of(hashes)
        _, first = np.unique(ids, return_index=True)
        rows = np.sort(first)
        held = np.concatenate([one[side].ids for split, one in made.items() if split != "transfer"])
        rows = rows[~np.isin(ids[rows], held)]
        if len(rows) < len(samples):
            self.notes.append(
                f"{len(samples) - len(rows)} of {len(samples)} unpaired {side}s are copies of others or in other "
                "splits, and were left out"
            )
        if not len(rows):
            raise DataError(f"`transfer`: every {side} is in another split already; leave it out")
        inputs = samples[rows]
        digest = content_digest(inputs, None, hashes, rows)
        return Split("transfer", inputs, None, ids[rows], digest, "transfer", rows, len(samples))


def _hashed(sides: Sides) -> dict[str, Hashes]:
    return {side: sample_hashes(one.inputs) for side, one in sides.items()}


def pairs_of(sides: Mapping[str, Split], metric: str) -> Pairs:
    """What is searched in a split: both sides, and which of them belong together."""
    groups = {side: split.targets for side, split in sides.items()}
    numbered = _numbered({side: np.asarray(one, np.int64) for side, one in groups.items()})
    digest = digest_of([split.digest for split in sides.values()])
    return Pairs.of({side: split.inputs for side, split in sides.items()}, numbered, f"{BOTH_WAYS}{metric}", digest)


def _numbered(groups: Mapping[str, Rows]) -> dict[str, Rows]:
    """Numbers from 0, the same ones on both sides."""
    known = np.unique(np.concatenate(list(groups.values())))
    return {side: np.searchsorted(known, one).astype(np.int64) for side, one in groups.items()}
