"""Differences between figures that were recorded apart, each with an interval of its own."""

from __future__ import annotations

import math

from compresslab.measure.measurement import Estimate


def difference(this: Estimate, other: Estimate) -> Estimate:
    """`this - other`, of independent estimates, by the distances of their limits.

    The "method of variance estimates recovery" (Zou and Donner, "Construction of confidence limits about effect
    measures", Statistics in Medicine 27, 2008): it keeps what is lopsided in the two intervals.
    """
    value = this.value - other.value
    low = value - math.hypot(this.value - this.low, other.high - other.value)
    high = value + math.hypot(this.high - this.value, other.value - other.low)
    return Estimate(value, low, high)


def ratio(this: Estimate, other: Estimate) -> Estimate:
    """`this / other`, of independent positive estimates: their difference on the log scale."""
    log = difference(_log(this), _log(other))
    return Estimate(math.exp(log.value), math.exp(log.low), math.exp(log.high))


def _log(estimate: Estimate) -> Estimate:
    return Estimate(math.log(estimate.value), math.log(estimate.low), math.log(estimate.high))
