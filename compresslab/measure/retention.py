"""What a student kept of its teacher, class by class, and which answers it changed.

A class is marked lost or gained where McNemar's exact test says that the student's recall differs from the teacher's on
the same examples. The tests of all classes are corrected together by Holm's step-down method (S. Holm, "A simple
sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6, 1979): of a student that is as
good as its teacher on every class, any mark at all has a chance of at most 5 %. The interval beside a difference is the
paired one of that class alone, for bootstraps cannot reach the far tails that a thousand classes would ask for.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from compresslab.measure.intervals import LEVEL, Floats
from compresslab.measure.measurement import Change, ClassRetention, Flip, Flips, Retained
from compresslab.measure.metrics import METRICS, Ints, Outputs, check_targets
from compresslab.measure.quality import mcnemar, quality_delta

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_CLASSES = 100
"""Of more classes than this only the worst are told."""
WORST = 20
FREQUENT = 10


def retained(split: str, outputs: Outputs, reference: Outputs, targets: Ints, labels: Sequence[str] = ()) -> Retained:
    """A student's answers against its teacher's on the same examples.

    Args:
        split: Its name.
        outputs: The student's, [n, classes].
        reference: The teacher's, [n, classes].
        targets: The right classes, [n].
        labels: Their names, by number; a class without one is called by its number.

    Raises:
        DataError: A target has no output.
    """
    check_targets(outputs, targets)
    check_targets(reference, targets)
    ours, theirs = outputs.argmax(axis=1), reference.argmax(axis=1)
    classes, counts = np.unique(targets, return_counts=True)
    examples = np.split(np.argsort(targets, kind="stable"), np.cumsum(counts)[:-1])

    # Two columns, wrong and right: the class itself is all that a test of its recall needs to tell apart.
    right = np.ones(len(targets), np.int64)
    this, other = (np.eye(2, dtype=np.float32)[(answers == targets).astype(np.int64)] for answers in (ours, theirs))
    tests = [mcnemar(this[rows], other[rows], right[rows]) for rows in examples]
    p_values = holm(np.array([p_value for *_, p_value in tests]))
    changes = [_change(won, lost, p_value) for (won, lost, _), p_value in zip(tests, p_values, strict=True)]

    def class_retention(index: int) -> ClassRetention:
        rows, (won, lost, _) = examples[index], tests[index]
        changed = int((ours[rows] != theirs[rows]).sum())
        return ClassRetention(
            label=_label(labels, int(classes[index])),
            n=len(rows),
            teacher=float(other[rows, 1].mean()),
            student=float(this[rows, 1].mean()),
            delta=quality_delta(METRICS["accuracy"], this[rows], other[rows], right[rows]),
            p_value=float(p_values[index]),
            change=changes[index],
            right_to_wrong=lost,
            wrong_to_right=won,
            wrong_to_other_wrong=changed - lost - won,
        )

    def badness(index: int) -> tuple[bool, float, float]:
        won, lost, _ = tests[index]
        return changes[index] != "lost", (won - lost) / len(examples[index]), float(p_values[index])

    told = range(len(classes)) if len(classes) <= MOST_CLASSES else sorted(range(len(classes)), key=badness)[:WORST]
    return Retained(
        split=split,
        n=len(targets),
        measured=len(classes),
        lost=changes.count("lost"),
        gained=changes.count("gained"),
        classes=tuple(class_retention(index) for index in told),
        flips=_flips(ours, theirs, targets, labels),
    )


def holm(p_values: Floats) -> Floats:
    """P-values that hold for all their tests together: one below 0.05 is an error once in twenty families at most."""
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(p_values))
    steps = p_values[order] * np.arange(len(p_values), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def _change(won: int, lost: int, p_value: float) -> Change:
    if p_value > 1.0 - LEVEL:
        return "unclear"
    return "lost" if lost > won else "gained"


def _flips(ours: Ints, theirs: Ints, targets: Ints, labels: Sequence[str]) -> Flips:
    changed = ours != theirs
    pairs = Counter(zip(theirs[changed].tolist(), ours[changed].tolist(), strict=True))
    frequent = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))[:FREQUENT]

    def flip(before: int, after: int, count: int) -> Flip:
        truths = targets[(theirs == before) & (ours == after)]
        won, lost = int((truths == after).sum()), int((truths == before).sum())
        return Flip(_label(labels, before), _label(labels, after), count, right_to_wrong=lost, wrong_to_right=won)

    lost, won = int((changed & (theirs == targets)).sum()), int((changed & (ours == targets)).sum())
    return Flips(
        right_to_wrong=lost,
        wrong_to_right=won,
        wrong_to_other_wrong=int(changed.sum()) - lost - won,
        frequent=tuple(flip(before, after, count) for (before, after), count in frequent),
    )


def _label(labels: Sequence[str], index: int) -> str:
    return labels[index] if index < len(labels) else str(index)
