from __future__ import annotations

import numpy as np

from compresslab.measure.steady import steady_from


def noisy(values: np.ndarray) -> np.ndarray:
    return values * np.exp(np.random.default_rng(0).normal(0.0, 0.02, len(values)))


def test_a_step_is_found_where_it_is() -> None:
    assert steady_from(noisy(np.array([5.0] * 14 + [1.0] * 30))) == 14


def test_several_steps_are_all_cut_off() -> None:
    """The optimiser of a runtime may work in stages."""
    assert steady_from(noisy(np.array([9.0] * 12 + [3.0] * 12 + [1.0] * 30))) == 24


def test_what_never_changes_or_gets_slower_is_steady_from_the_start() -> None:
    assert steady_from(np.ones(40)) == 0
    assert steady_from(noisy(np.array([1.0] * 20 + [2.0] * 20))) == 0


def test_single_outliers_are_no_change() -> None:
    values = noisy(np.ones(40))
    values[[0, 7, 21]] = 100.0
    assert steady_from(values) == 0


def test_a_few_values_prove_nothing() -> None:
    assert [steady_from([5.0, 4.0, 3.0, 2.0][:count]) for count in range(5)] == [0, 0, 0, 0, 0]
    assert steady_from([2.0] * 4 + [1.0] * 5) == 0
    assert steady_from([2.0] * 5 + [1.0] * 5) == 5
