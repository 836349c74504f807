"""What the measuring processes recorded of one model at one point."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class LatencySamples:
    """One int64 array [rounds, calls] of nanoseconds a process, in the order of measuring.

    Models measured together share processes and rounds: round r of process p ran within the same few milliseconds for
    all of them, so whatever disturbed the machine then disturbed them all.
    """

    processes: tuple[npt.NDArray[np.int64], ...]

    @property
    def count(self) -> int:
        """Calls in all."""
        return sum(process.size for process in self.processes)

    @property
    def milliseconds(self) -> tuple[npt.NDArray[np.float64], ...]:
        """The same in milliseconds."""
        return tuple(process / 1e6 for process in self.processes)

    @property
    def median_ms(self) -> float:
        """The median of all calls, in milliseconds."""
        return float(np.median(np.concatenate([process.ravel() for process in self.processes]))) / 1e6
