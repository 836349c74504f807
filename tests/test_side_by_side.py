"""Benchmarks that time a run's models side by side: each against the teacher, by what is fed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from benchmarks import side_by_side
from compresslab.measure.bench import BenchPoint
from compresslab.measure.samples import LatencySamples

if TYPE_CHECKING:
    from tests.conftest import FinishedRun


def test_speed_is_against_the_teacher_and_several_points_are_a_call_of_each(
    finished_run: FinishedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Model k of n takes n - k ms at the one point, and ten times that at the other."""
    one, ten = BenchPoint(), BenchPoint(batch=10)
    count = len(finished_run.report.points)

    def recorded(artifacts: object, examples: object, settings: side_by_side.BenchSettings, sets: object) -> object:
        assert settings.points == (one, ten), "each is measured once"
        assert (settings.processes, settings.min_seconds) == (2, 0.5)
        calls = np.full((4, 5), 1_000_000, np.int64)
        return [[LatencySamples((calls * by * (count - k),) * 2) for k in range(count)] for by in (1, 10)]

    monkeypatch.setattr(side_by_side, "interleaved", recorded)
    pipeline = finished_run.pipeline
    body = side_by_side.body_of(
        pipeline,
        finished_run.report,
        pipeline.task.load(finished_run.store / "data"),
        {"both": (one, ten), "one": (one,)},
        ["stripes/accuracy"],
        name=lambda point: f"{point.stage}{' beside' if point.reference else ''}",
        quick=True,
    )
    last = body["rows"][-1]
    assert last["name"] == "quantize"
    assert last["ms"] == {"both": 11.0, "one": 1.0}
    assert last["speedup"] == {name: pytest.approx([count, count, count]) for name in ("both", "one")}
    assert [row["selected"] for row in body["rows"]].count(True) == 1

    table = side_by_side.markdown(body, "batch 1").splitlines()
    assert table[0] == "| model | kB | smaller | faster, both | one | stripes/accuracy, % kept |"
    assert len({line.count("|") for line in table[: count + 2]}) == 1
    assert table[2].startswith("| baseline | ")
    assert table[2].endswith(" | 1.0x | 1.0 [1.0, 1.0] | 1.0 [1.0, 1.0] | 100.0 [100.0, 100.0] |")
    assert "batch 1" in table[-1]
