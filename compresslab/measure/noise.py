"""How loud the machine is: the same model measured twice, as if it were two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from compresslab.measure.comparison import MINIMUM_EFFECT
from compresslab.measure.intervals import latency_ratio

if TYPE_CHECKING:
    from compresslab.measure.measurement import Estimate
    from compresslab.measure.samples import LatencySamples


@dataclass(frozen=True)
class Noise:
    """An A/A comparison. `ratio` should be 1; `between_processes` is the standard deviation of its logarithm."""

    ratio: Estimate
    between_processes: float

    @property
    def smallest(self) -> float:
        """The smallest difference that this machine can show in as many processes: what its A/A interval reaches."""
        return max(abs(self.ratio.high - 1.0), abs(1.0 - self.ratio.low))

    @property
    def warning(self) -> str | None:
        """What to tell where the machine is too loud to see `MINIMUM_EFFECT`, else None."""
        if self.smallest <= MINIMUM_EFFECT:
            return None
        return (
            f"this machine is too loud to answer: the same model, measured twice, differs by up to "
            f"{100 * self.smallest:.1f} %, so smaller differences mean nothing; stop what else runs on it, "
            "or measure in more processes"
        )


def noise(one: LatencySamples, twin: LatencySamples) -> Noise:
    """The noise, from two recordings of one model that shared processes and rounds."""
    logs = [
        np.log(np.median(this) / np.median(other)) for this, other in zip(one.processes, twin.processes, strict=True)
    ]
    between = float(np.std(logs, ddof=1)) if len(logs) > 1 else float("nan")
    return Noise(latency_ratio(one.milliseconds, twin.milliseconds), between)
