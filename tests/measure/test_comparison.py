from __future__ import annotations

import numpy as np
import pytest

from compresslab.measure.artifact import Manifest
from compresslab.measure.comparison import Comparison, compare, reasons, verdict_of
from compresslab.measure.measurement import Estimate, IntegerOperators, Verdict
from compresslab.measure.samples import LatencySamples


def samples(milliseconds: float, noise: float = 0.01, seed: int = 0) -> LatencySamples:
    rng = np.random.default_rng(seed)
    return LatencySamples(
        tuple((milliseconds * 1e6 * np.exp(rng.normal(0.0, noise, (20, 10)))).astype(np.int64) for _ in range(3))
    )


def comparison(verdict: Verdict, this_ms: float = 2.0, other_ms: float = 2.0) -> Comparison:
    value = other_ms / this_ms
    return Comparison(Estimate(value, 0.9 * value, 1.1 * value), verdict, this_ms, other_ms)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (1.021, 4.0, "faster"),
        (1.021, 1.049, "faster"),
        (0.3, 0.979, "slower"),
        (0.96, 1.045, "no_difference"),
        (1.005, 1.049, "no_difference"),
        (0.96, 1.06, "inconclusive"),
        (0.5, 1.04, "inconclusive"),
        (1.01, 3.0, "inconclusive"),
    ],
)
def test_the_verdict_is_what_the_whole_interval_proves(low: float, high: float, verdict: Verdict) -> None:
    assert verdict_of(Estimate((low + high) / 2.0, low, high)) == verdict


def test_the_speedup_is_the_others_time_over_this_ones() -> None:
    found = compare(this=samples(0.5), other=samples(2.0, seed=1))
    assert found.verdict == "faster"
    assert found.speedup.value == pytest.approx(4.0, rel=0.01)
    assert (found.this_ms, found.other_ms) == pytest.approx((0.5, 2.0), rel=0.01)
    assert compare(this=samples(2.0), other=samples(0.5, seed=1)).verdict == "slower"
    assert compare(this=samples(2.0), other=samples(2.0, seed=1)).verdict == "no_difference"
    assert compare(this=samples(2.0, noise=2.0), other=samples(2.0, noise=2.0, seed=1)).verdict == "inconclusive"


def test_a_faster_model_needs_no_excuse(manifest: Manifest) -> None:
    slow = manifest.model_copy(update={"macs": manifest.macs * 2})
    assert reasons(comparison("faster"), slow, manifest) == ()


def test_a_loud_machine_is_told_with_the_remedy(manifest: Manifest) -> None:
    (why,) = reasons(comparison("inconclusive"), manifest, manifest)
    assert why.startswith(
        "the machine is too loud to tell: the speed-up lies between 0.9 and 1.1; raise bench.min_seconds"
    )


def test_operators_left_in_float_are_named(manifest: Manifest) -> None:
    floating = tuple(f"layer{index}: Gelu: no integer kernel" for index in range(5))
    this = manifest.model_copy(update={"integer_operators": IntegerOperators(12, 7, floating)})
    (why,) = reasons(comparison("slower"), this, manifest)
    assert why.startswith(
        "5 of 12 operators that have an integer kernel run in float: layer0: Gelu: no integer kernel; "
    )
    assert why.endswith("; and 2 more")


def test_activations_that_interrupt_the_integers_are_told_apart(manifest: Manifest) -> None:
    """They are not among the eligible: they must not be counted, or named, as if they were."""
    floating = ("head (Gemm): its weights are float", *(f"behind {index} (HardSwish): no kernel" for index in range(4)))
    this = manifest.model_copy(update={"integer_operators": IntegerOperators(12, 11, floating)})
    head, swishes = reasons(comparison("slower"), this, manifest)
    assert head.endswith("run in float: head (Gemm): its weights are float")
    assert swishes.startswith("4 operators between integers have no integer kernel, so that values are converted")
    assert swishes.endswith("behind 2 (HardSwish): no kernel; and 1 more")


def test_quantizing_a_tiny_model_costs_more_than_it_saves(manifest: Manifest) -> None:
    """The net of 8 channels: 0.061 ms in INT8 against 0.048 ms."""
    this = manifest.model_copy(update={"integer_operators": IntegerOperators(9, 9)})
    (why,) = reasons(comparison("slower", 0.061, 0.048), this, manifest)
    assert why.startswith(
        "a call takes 0.061 ms, against 0.048: on a model this small the quantize and dequantize nodes"
    )
    assert reasons(comparison("slower", 6.1, 4.8), this, manifest) == (), "nothing in evidence explains a large one"


def test_the_tiny_excuse_is_only_for_what_was_quantized_now(manifest: Manifest) -> None:
    integer = manifest.model_copy(update={"integer_operators": IntegerOperators(9, 9), "macs": 50})
    (why,) = reasons(comparison("no_difference", 0.05, 0.05), integer, integer)
    assert why == "it does no fewer multiply-adds: 50 for an example, against 50"


def test_fewer_multiply_adds_that_save_no_time_are_told(manifest: Manifest) -> None:
    """MACs are not time: an unrounded pruning can make a network slower."""
    this, other = (manifest.model_copy(update={"macs": macs}) for macs in (600, 1000))
    (why,) = reasons(comparison("no_difference", 1.98, 2.0), this, other)
    assert why == "it does 60% of the multiply-adds in 99% of the time, so that is not what takes the time"
    unknown = manifest.model_copy(update={"macs": 0})
    assert reasons(comparison("slower"), unknown, other) == ()
