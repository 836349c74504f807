"""What the gate says: one record a limit, and the verdict over all. Plain data, told in many formats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from compresslab.measure.budget import Status
    from compresslab.measure.measurement import Estimate

Sense = Literal["at most", "at least"]
Unit = Literal["ms", "share", "points", "times", "bytes", "mb"]


@dataclass(frozen=True)
class Check:
    """One limit of the budget beside what was found; `found` is None where there was not enough to know.

    Its interval holds 95 %, at whatever moment the gate stopped. `why` says more, where the status needs it.
    """

    key: str
    sense: Sense
    limit: float
    unit: Unit
    status: Status
    found: Estimate | None
    why: str = ""

    @property
    def asked(self) -> str:
        """`at most 5.00 %`."""
        return f"{self.sense} {self.figure(self.limit)}"

    @property
    def answer(self) -> str:
        """`1.24 % [0.9, 1.6]`, or why there is none."""
        if self.found is None:
            return "not known"
        if self.found.low == self.found.high:
            return self.figure(self.found.value)
        return f"{self.figure(self.found.value)} [{self.figure(self.found.low)}, {self.figure(self.found.high)}]"

    def __str__(self) -> str:
        return f"{self.key}: {self.asked}; found {self.answer}: {self.status}{f' ({self.why})' if self.why else ''}"

    def figure(self, value: float) -> str:
        """A value in the limit's unit."""
        match self.unit:
            case "ms":
                return f"{value:.4g} ms"
            case "share":
                return f"{100 * value:.2f} %"
            case "points":
                return f"{100 * value:.2f} points"
            case "times":
                return f"{value:.3g}x"
            case "bytes":
                return f"{value:,.0f} bytes"
            case "mb":
                return f"{value:.1f} MB"


@dataclass(frozen=True)
class GateResult:
    """The verdict on one model. `where` is how it was called; `seconds` and `processes` are what latency took."""

    model: str
    baseline: str | None
    where: str
    checks: tuple[Check, ...]
    processes: int
    seconds: float
    machine: Mapping[str, object]
    notes: tuple[str, ...] = ()

    @property
    def status(self) -> Status:
        """`fail` with any limit that is broken, `pass` with all that are kept, else `inconclusive`."""
        return overall([check.status for check in self.checks])


def overall(statuses: Sequence[Status]) -> Status:
    """The verdict over all limits."""
    if "fail" in statuses:
        return "fail"
    return "inconclusive" if "inconclusive" in statuses else "pass"
