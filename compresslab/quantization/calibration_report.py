"""What a calibration rests on: how many samples, of which classes, and how much the luck of the draw matters."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

_NAMED = 5
DISJOINT = "no sample is in another split, by content hash"


@dataclass(frozen=True)
class Coverage:
    """The samples that set the ranges.

    Args:
        samples: How many are used.
        given: How many there are.
        counts: Of each class among those used, by label; None where they have no labels, or the task no classes.
    """

    samples: int
    given: int
    counts: dict[str, int] | None

    @classmethod
    def of(cls, targets: npt.NDArray[Any] | None, labels: Sequence[str], samples: int, given: int) -> Coverage:
        """Of the first `samples` of a split of `given`, whose targets are class indices [given] or None."""
        if targets is None or not labels:
            return cls(samples, given, None)
        counted = np.bincount(targets[:samples].astype(np.int64), minlength=len(labels))
        return cls(samples, given, dict(zip(labels, counted.tolist(), strict=True)))

    @property
    def missing(self) -> tuple[str, ...]:
        """The labels of classes without a sample."""
        return () if self.counts is None else tuple(label for label, count in self.counts.items() if not count)

    def plain(self) -> dict[str, Any]:
        """For a step's decisions."""
        told: dict[str, Any] = {"of": self.given, "disjoint": DISJOINT}
        if self.counts is None:
            return {**told, "labelled": False}
        fewest = min(self.counts.values())
        return {
            **told,
            "classes": len(self.counts) - len(self.missing),
            "of_classes": len(self.counts),
            "fewest_of_a_class": fewest,
            "missing": list(self.missing),
        }

    def notes(self) -> Iterator[str]:
        """What the user should know of it."""
        if self.missing:
            named = ", ".join(f"`{label}`" for label in self.missing[:_NAMED])
            more = len(self.missing) - _NAMED
            raised = (
                f"raise `samples` (now {self.samples} of {self.given})" if self.samples < self.given else "add some"
            )
            yield (
                f"calibration has no sample of {len(self.missing)} of {len(self.counts or ())} classes: {named}"
                f"{f' and {more} more' if more > 0 else ''}; what only they reach is clipped, so {raised}"
            )


def subset_size(samples: int, given: int) -> int:
    """How many a random subset takes: as many as are used, or half where all are, as all would always be the same."""
    return samples if samples < given else max(2, given // 2)


def subset(given: int, size: int, seed: int, number: int) -> npt.NDArray[np.int64]:
    """The rows of a random subset, without repeats; the same for the same seed and number."""
    rows: npt.NDArray[np.int64] = np.random.default_rng([seed, number]).permutation(given)[:size]
    return rows


def spread(qualities: Sequence[float], size: int) -> dict[str, Any]:
    """What qualities over random subsets say, for a step's decisions."""
    return {
        "subsets": len(qualities),
        "size": size,
        "quality": [round(value, 6) for value in qualities],
        "mean": round(statistics.fmean(qualities), 6),
        "std": round(statistics.stdev(qualities), 6),
    }
