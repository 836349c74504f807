"""Two artifacts measured interleaved: the interval of their ratio, the verdict, and why it is not `faster`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from compresslab.measure.intervals import latency_ratio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from compresslab.measure.artifact import Manifest
    from compresslab.measure.measurement import Estimate, Verdict
    from compresslab.measure.samples import LatencySamples

# Memory layout alone moves a program by this much and more (Mytkowicz et al., "Producing wrong data without doing
# anything obviously wrong", 2009): a smaller difference may be real, but need not be the model's.
MINIMUM_EFFECT = 0.02
# Within this much nobody serving the model would tell them apart.
EQUIVALENCE = 0.05

# Below this a call is mostly the fixed cost of its operators, quantize and dequantize among them.
_SMALL_MS = 0.1
_FLOATING_NAMED = 3


@dataclass(frozen=True)
class Comparison:
    """How `this` stands to `other`: `speedup` is the ratio of median latencies, other / this, so > 1 is faster."""

    speedup: Estimate
    verdict: Verdict
    this_ms: float
    other_ms: float


def compare(this: LatencySamples, other: LatencySamples) -> Comparison:
    """Compares samples that were recorded interleaved, in the same processes and rounds."""
    speedup = latency_ratio(other.milliseconds, this.milliseconds)
    return Comparison(speedup, verdict_of(speedup), this.median_ms, other.median_ms)


def verdict_of(speedup: Estimate) -> Verdict:
    """What a speed-up's interval proves.

    `faster` and `slower`: the whole interval lies beyond `MINIMUM_EFFECT`. `no_difference`: it lies within
    `EQUIVALENCE` on both sides. `inconclusive`: it is too wide for any of them.
    """
    if speedup.low > 1.0 + MINIMUM_EFFECT:
        return "faster"
    if speedup.high < 1.0 / (1.0 + MINIMUM_EFFECT):
        return "slower"
    if speedup.low >= 1.0 / (1.0 + EQUIVALENCE) and speedup.high <= 1.0 + EQUIVALENCE:
        return "no_difference"
    return "inconclusive"


def reasons(comparison: Comparison, this: Manifest, other: Manifest) -> tuple[str, ...]:
    """Why `this` is not `faster`, as far as the evidence goes; empty where it is, or where nothing explains it."""
    if comparison.verdict == "faster":
        return ()
    if comparison.verdict == "inconclusive":
        low, high = comparison.speedup.low, comparison.speedup.high
        return (
            f"the machine is too loud to tell: the speed-up lies between {low:.3g} and {high:.3g}; "
            "raise bench.min_seconds and bench.processes, or measure on a quiet machine",
        )
    if this.integer_operators.eligible > 0 and other.integer_operators.eligible == 0:
        return _why_integers_do_not_pay(comparison, this)
    return _why_arithmetic_does_not_pay(comparison, this, other)


def _why_integers_do_not_pay(comparison: Comparison, this: Manifest) -> tuple[str, ...]:
    operators = this.integer_operators
    left = operators.eligible - operators.integer
    found = []
    if left > 0:
        found.append(
            f"{left} of {operators.eligible} operators that have an integer kernel "
            f"run in float{_named(operators.floating[:left])}"
        )
    if interrupting := operators.floating[left:]:
        found.append(
            f"{len(interrupting)} operators between integers have no integer kernel, so that values are converted "
            f"before and after{_named(interrupting)}"
        )
    if max(comparison.this_ms, comparison.other_ms) < _SMALL_MS:
        found.append(
            f"a call takes {comparison.this_ms:.3g} ms, against {comparison.other_ms:.3g}: on a model this small the "
            "quantize and dequantize nodes cost more than integer arithmetic saves"
        )
    return tuple(found)


def _named(lines: Sequence[str]) -> str:
    more = len(lines) - _FLOATING_NAMED
    return f"{': ' if lines else ''}{'; '.join(lines[:_FLOATING_NAMED])}{f'; and {more} more' if more > 0 else ''}"


def _why_arithmetic_does_not_pay(comparison: Comparison, this: Manifest, other: Manifest) -> tuple[str, ...]:
    if min(this.macs, other.macs) <= 0:
        return ()
    share = this.macs / other.macs
    time = comparison.this_ms / comparison.other_ms
    if share >= 1.0:
        return (f"it does no fewer multiply-adds: {this.macs:,} for an example, against {other.macs:,}",)
    return (f"it does {share:.0%} of the multiply-adds in {time:.0%} of the time, so that is not what takes the time",)
