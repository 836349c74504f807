from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from compresslab.measure.bench import BenchSettings
from compresslab.measure.measurement import Estimate, Measurement
from compresslab.measure.measuring import Measurer
from compresslab.measured import Measurements
from compresslab.store import Store
from compresslab.testing import tiny_task

if TYPE_CHECKING:
    from compresslab.measure.artifact import Artifact


class Named:
    """Stands for an artifact: measurements in the store know it by its digest alone."""

    def __init__(self, digest: str) -> None:
        self.digest = digest


def test_the_control_is_part_of_what_a_measurement_is_kept_under(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a run that asks for a control after one without it would report none, or another seed's."""
    asked: list[tuple[str, ...]] = []

    def measure(self: Measurer, *arguments: Any) -> Measurement:
        control = arguments[-1]
        asked.append(tuple("-" if one is None else one.digest for one in (*arguments[:4], control)))
        delta = None if control is None else Estimate(float(control.digest), 0.0, 9.0, 10)
        return Measurement({}, (), 0.0, {}, versus_control=delta)

    monkeypatch.setattr(Measurer, "measure", measure)
    measurements = Measurements(Store(tmp_path / "store"), tiny_task(tmp_path), BenchSettings())
    this, baseline, one, other = (Named(digest) for digest in ("this", "baseline", "1", "2"))

    def versus(control: Artifact | Named | None) -> Estimate | None:
        found, _ = measurements.obtain(this, baseline, baseline, baseline, control=control)  # type: ignore[arg-type]
        return found.versus_control

    assert [versus(control) for control in (None, one, other, one)] == [
        None, Estimate(1.0, 0.0, 9.0, 10), Estimate(2.0, 0.0, 9.0, 10), Estimate(1.0, 0.0, 9.0, 10),
    ]  # fmt: skip
    assert [control for *_, control in asked] == ["-", "1", "2"], "the last one is read from the store"


def test_what_a_loud_machine_measured_is_measured_again_by_the_next_run_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else an open limit stays open for ever, however quiet the machine is by now."""
    made: list[float] = []

    def measure(self: Measurer, *arguments: Any) -> Measurement:
        made.append(float(len(made)))
        return Measurement({}, (), made[-1], {})

    monkeypatch.setattr(Measurer, "measure", measure)
    task, this = tiny_task(tmp_path), Named("this")

    def run(loud: tuple[float, ...]) -> Measurements:
        return Measurements(
            Store(tmp_path / "store"), task, BenchSettings(), lambda _, found: found.peak_rss_mb in loud
        )

    def obtained(measurements: Measurements) -> tuple[float, bool]:
        found, cached = measurements.obtain(this, None, None, None)  # type: ignore[arg-type]
        return found.peak_rss_mb, cached

    first = run(loud=(0.0,))
    assert [obtained(first), obtained(first)] == [(0.0, False), (0.0, False)], "a run measures once"
    assert [obtained(run(loud=(0.0,))), obtained(run(loud=(0.0,)))] == [(1.0, False), (1.0, True)]
