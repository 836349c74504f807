"""A metric of the user's own: a function of outputs and targets, called on the sample and on resamples of it.

Its interval is a bootstrap over examples with `RESAMPLES` calls of the function, where built-in metrics have thousands:
each call costs what the function costs. Ends of an interval then wander by about a tenth of its width.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from compresslab.errors import BadInput, DataError
from compresslab.measure.metric_names import OWN
from compresslab.user_code import call

if TYPE_CHECKING:
    from collections.abc import Callable

    from compresslab.measure.metrics import Floats, Outputs, Targets

RESAMPLES = 200
"""How often the function is called for one interval."""


def value_of(metric: str, outputs: Outputs, targets: Targets) -> float:
    """What the user's function says.

    Args:
        metric: `python:module:function`; it takes `outputs` [n, outputs] and `targets` [n], and more is better.
        outputs: float32; logits of classes, or scores in the units of the targets.
        targets: int64 classes or float32 scores.

    Raises:
        BadInput: The function is not there, fails, or gives no finite number.
    """
    found = call(metric.removeprefix(OWN), {"outputs": outputs, "targets": targets})
    if isinstance(found, bool) or not isinstance(found, int | float | np.floating | np.integer):
        raise BadInput(f"{metric}: returned a {type(found).__name__}; a metric returns one number, more is better")
    if not math.isfinite(found):
        raise BadInput(f"{metric}: returned {found} for {len(targets)} examples; a metric returns a finite number")
    return float(found)


def check(outputs: Outputs, targets: Targets) -> None:
    """Refuses outputs and targets of different lengths.

    Raises:
        DataError: See above; or there are none.
    """
    if len(outputs) != len(targets) or len(targets) == 0:
        raise DataError(
            f"{len(outputs)} outputs for {len(targets)} targets; there must be one for each, and at least one"
        )


def outcomes(outputs: Outputs, targets: Targets) -> Floats:
    """All of each example, float64 [n, outputs + 2]: its outputs, its target, and whether that is a class."""
    classes = np.full(len(targets), targets.dtype.kind == "i")
    return np.column_stack([outputs, targets, classes]).astype(np.float64)


def of_counts(metric: str) -> Callable[[Any, Floats], Floats]:
    """From distinct outcomes and their counts in each resample to the metric of each."""

    def values(cells: Floats, counts: Floats) -> Floats:
        outputs, targets = cells[:, :-2].astype(np.float32), cells[:, -2]
        targets = targets.astype(np.int64 if cells[0, -1] else np.float32)
        drawn = (np.repeat(np.arange(len(cells)), one.astype(np.int64)) for one in counts)
        return np.array([value_of(metric, outputs[rows], targets[rows]) for rows in drawn])

    return values
