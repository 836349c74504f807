"""What was predicted beside what was measured, and which layers got narrower without getting faster."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compresslab.pruning.costs import WHOLE

if TYPE_CHECKING:
    from compresslab.measure.measurement import Estimate
    from compresslab.pruning.costs import Costs

# Two times of the table that differ by less are the same: it is measured to some per cent.
_SAME = 0.03


@dataclass(frozen=True)
class NarrowedInVain:
    """A layer that lost channels and is as slow as before; widths are (inputs, outputs)."""

    layer: str
    before: tuple[int, int]
    after: tuple[int, int]
    ms_before: float
    ms_after: float

    def __str__(self) -> str:
        sides = [
            f"{before} -> {after} {side}"
            for side, before, after in zip(("inputs", "outputs"), self.before, self.after, strict=True)
            if before != after
        ]
        slower = self.ms_after > self.ms_before * (1 + _SAME)
        why = "slower, as they do not fill registers" if slower else "the same time, as they lie on one step"
        return f"`{self.layer}` {' and '.join(sides)}: {why} ({self.ms_before:.3g} ms, then {self.ms_after:.3g} ms)"


@dataclass(frozen=True)
class Verdict:
    """Predicted and measured latency side by side.

    Args:
        predicted_ms: Of the network after pruning, as it ships.
        predicted_share: Of the time before.
        measured_share: The same, measured; None where it was not.
        relative_error: (predicted - measured) / measured share.
        in_vain: Layers that got narrower and not faster.
    """

    predicted_ms: float
    predicted_share: float
    measured_share: Estimate | None
    relative_error: float | None
    in_vain: tuple[NarrowedInVain, ...]

    @property
    def is_faster(self) -> bool | None:
        """Whether the network got faster, beyond the measurement's interval; None where it was not measured."""
        return None if self.measured_share is None else self.measured_share.high < 1.0

    @property
    def sentence(self) -> str:
        """The verdict in words; where the network is not faster, with the layers that are why."""
        predicted = f"predicted {self.predicted_share:.2f} of the time"
        if self.measured_share is None:
            return f"{predicted}, not measured"
        share = self.measured_share
        found = f"{predicted}, measured {share.value:.2f} [{share.low:.2f}, {share.high:.2f}]"
        if self.is_faster:
            return found
        reasons = "; ".join(str(layer) for layer in self.in_vain) or "no layer got narrower without getting faster"
        return f"not faster: {found}; {reasons}"

    def plain(self) -> dict[str, Any]:
        """As JSON data."""
        share = self.measured_share
        return {
            "predicted_ms": self.predicted_ms,
            "predicted_share": self.predicted_share,
            "measured_share": None if share is None else {"value": share.value, "low": share.low, "high": share.high},
            "relative_error": self.relative_error,
            "verdict": {True: "faster", False: "not faster", None: "not measured"}[self.is_faster],
            "narrowed_in_vain": [
                {
                    "layer": one.layer,
                    "before": list(one.before),
                    "after": list(one.after),
                    "ms": [one.ms_before, one.ms_after],
                }
                for one in self.in_vain
            ],
        }


def verdict(
    costs: Costs, keep: Mapping[str, int], removed: Collection[str] = WHOLE, measured_share: Estimate | None = None
) -> Verdict:
    """Compares the prediction for these units with what was measured of the network that has them.

    Args:
        costs: Of the network before pruning.
        keep: Units by group.
        removed: Names of layers that vanished.
        measured_share: Time after over time before, with its interval.
    """
    predicted = costs.share(keep, removed)
    error = None if measured_share is None else predicted / measured_share.value - 1
    return Verdict(costs.ms(keep, removed), predicted, measured_share, error, _in_vain(costs, keep, removed))


def _in_vain(costs: Costs, keep: Mapping[str, int], removed: Collection[str]) -> tuple[NarrowedInVain, ...]:
    before, after = costs.layer_times({}), costs.layer_times(keep, removed)
    found = []
    for name, now in after.items():
        was = before[name]
        narrower = (now.inputs, now.outputs) != (was.inputs, was.outputs)
        if narrower and now.ms > was.ms * (1 - _SAME):
            widths = ((was.inputs, was.outputs), (now.inputs, now.outputs))
            found.append(NarrowedInVain(name, *widths, was.ms, now.ms))
    return tuple(found)
