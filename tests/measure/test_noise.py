from __future__ import annotations

import numpy as np
import pytest

from compresslab.measure.noise import noise
from compresslab.measure.samples import LatencySamples


def twins(spread: float) -> tuple[LatencySamples, LatencySamples]:
    rng = np.random.default_rng(0)

    def one() -> LatencySamples:
        return LatencySamples(
            tuple(
                (1e6 * np.exp(rng.normal(0.0, spread) + rng.normal(0.0, 0.01, (20, 10)))).astype(np.int64)
                for _ in range(5)
            )
        )

    return one(), one()


def test_a_quiet_machine_gets_no_warning() -> None:
    found = noise(*twins(0.001))
    assert found.warning is None
    assert found.smallest < 0.01
    assert found.ratio.low < 1.0 < found.ratio.high


def test_a_loud_machine_is_told_by_how_much() -> None:
    found = noise(*twins(0.1))
    assert found.between_processes == pytest.approx(0.14, rel=0.6)
    assert found.warning is not None
    assert "this machine is too loud to answer" in found.warning
    assert f"differs by up to {100 * found.smallest:.1f} %" in found.warning
