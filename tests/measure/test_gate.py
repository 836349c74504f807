from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from compresslab.errors import BadInput
from compresslab.measure import gate as gating
from compresslab.measure.bench import BenchPoint, BenchSettings, Serving
from compresslab.measure.checked import Check
from compresslab.measure.gate import Gated, gate
from compresslab.measure.gate_budget import GateBudget
from compresslab.measure.gate_latency import latency_limits
from compresslab.measure.session import SessionOptions
from compresslab.measure.subject import Subject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def budget(**keys: Any) -> GateBudget:
    return GateBudget.model_validate(keys)


def gated(name: str, size: int, tmp_path: Path) -> Gated:
    return Gated(Subject(name, {"model": tmp_path}, SessionOptions(), {}), size)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Measuring processes in which `new` takes 1.1 ms, `old` 1 ms; writes down who was measured together."""
    measured: list[tuple[str, ...]] = []
    rng = np.random.default_rng(0)

    @contextmanager
    def processes(subjects: list[Subject], _: object) -> Iterator[Callable[[int], Any]]:
        def process(number: int) -> Any:
            measured.append(tuple(subject.name for subject in subjects))
            return [
                [
                    (1e6 * (1.1 if subject.name == "new" else 1.0) * np.exp(rng.normal(0, 0.01, (10, 40)))).astype(int)
                    for subject in subjects
                ]
            ]

        yield process

    monkeypatch.setattr(gating, "measuring_processes", processes)
    monkeypatch.setattr(gating, "serving", lambda *_: Serving(50.0, 10.0, 1.0))
    monkeypatch.setattr(gating, "usable_cores", lambda: 2)
    return measured


def test_everything_the_budget_limits_is_checked(machine: list[tuple[str, ...]], tmp_path: Path) -> None:
    limits = budget(p50_ms=1.2, p90_slower=0.05, speedup=0.5, bytes=900, size_ratio=1.2, peak_rss_mb=49.0, accuracy=0.9)
    asked: list[int] = []

    def quality(together: int) -> list[Check]:
        asked.append(together)
        return [Check("accuracy", "at least", 0.9, "share", "pass", None)]

    result = gate(limits, gated("new", 1000, tmp_path), gated("old", 1200, tmp_path), quality, notes=("told",))
    assert {check.key: check.status for check in result.checks} == {
        "p50_ms": "pass", "p90_slower": "fail", "speedup": "pass", "bytes": "fail", "size_ratio": "pass",
        "peak_rss_mb": "fail", "accuracy": "pass",
    }  # fmt: skip
    assert (result.status, result.model, result.baseline, result.where) == ("fail", "new", "old", "batch 1, 1 thread")
    assert asked == [4], "three latencies and one quality are uncertain together"
    assert set(machine) == {("new", "old")}
    assert (result.notes, result.processes) == (("told",), len(machine))
    assert {"cpu", "load"} <= set(result.machine)


def test_the_baseline_is_not_measured_where_nothing_is_relative(machine: list[tuple[str, ...]], tmp_path: Path) -> None:
    gate(budget(p50_ms=2.0), gated("new", 1, tmp_path), gated("old", 1, tmp_path))
    assert set(machine) == {("new",)}


def test_nothing_is_measured_for_a_budget_of_sizes(machine: list[tuple[str, ...]], tmp_path: Path) -> None:
    result = gate(budget(bytes=10), gated("new", 10, tmp_path), None)
    assert (result.status, machine, result.processes) == ("pass", [], 0)


def test_every_look_is_told(machine: list[tuple[str, ...]], tmp_path: Path) -> None:
    told: list[str] = []
    gate(budget(p50_ms=2.0), gated("new", 1, tmp_path), None, tell=told.append)
    assert told[0].startswith("8 processes, 0.0 s: p50_ms 1.1 ms [1.09")
    assert told[0].endswith(" pass")


def test_undecided_says_why_and_what_to_do(machine: list[tuple[str, ...]], tmp_path: Path) -> None:
    short = gate(budget(p50_slower=0.1), gated("new", 1, tmp_path), gated("old", 1, tmp_path), time_limit=0.02)
    assert short.status == "inconclusive"
    (check,) = short.checks
    assert "raise --time-limit" in check.why


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"p50_slower": 0.05, "size_ratio": 1.0}, r"`p50_slower`, `size_ratio`: relative .* --baseline MODEL_OR_RUN"),
        ({"speedup": 2.0}, "`speedup`: relative to a baseline, and there is none"),
        ({"p50_ms": 1.0, "threads": 3}, r"`threads: 3` cannot be .* may use 2 cores; set `threads: 2`"),
        ({"accuracy": 0.9}, r"`accuracy`: there is nothing to measure quality on; give labelled data as --data"),
    ],
)  # fmt: skip
def test_what_cannot_be_measured_is_refused_before_anything_is(
    machine: list[tuple[str, ...]], tmp_path: Path, keys: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        gate(budget(**keys), gated("new", 1, tmp_path), None)
    assert machine == []


def test_one_core_only_is_told_as_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(gating, "usable_cores", lambda: 1)
    with pytest.raises(BadInput, match=r"may use 1 core; set `threads: 1`, or give the job more cores"):
        gate(budget(p50_ms=1.0, threads=2), gated("new", 1, tmp_path), None)


def test_a_far_percentile_makes_processes_longer() -> None:
    """Two calls beyond it in each, or its figure would be the largest call's."""
    counts = {}
    for key in ("p50_ms", "p90_ms", "p99_ms"):
        limits = budget(**{key: 1.0})
        counts[key] = gating.process_settings(limits, latency_limits(limits)).min_count
    assert counts == {"p50_ms": 30, "p90_ms": 30, "p99_ms": 200}


# -- two towers ------------------------------------------------------------------------------------------------------


def towers(name: str, tmp_path: Path, inputs: dict[str, str] | None = None) -> Gated:
    graphs = {"image": tmp_path, "text": tmp_path}
    return Gated(Subject(name, graphs, SessionOptions(), {}), 100, inputs or {})


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> list[list[BenchPoint]]:
    """Processes in which an image takes 3 ms and a text 1 ms, of `old` 2 ms each; writes down the points."""
    measured: list[list[BenchPoint]] = []
    times = {("image", "new"): 3e6, ("text", "new"): 1e6}

    @contextmanager
    def processes(subjects: list[Subject], settings: BenchSettings) -> Iterator[Callable[[int], Any]]:
        measured.append(list(settings.points))

        def process(number: int) -> Any:
            noise = 1 + number % 3 / 1000
            return [
                # Rounds and calls differ between the points, as they do between models of different speed.
                [
                    np.full((4 + place, 20 - place), int(times.get((point.graph, one.name), 2e6) * noise))
                    for one in subjects
                ]
                for place, point in enumerate(settings.points)
            ]

        yield process

    def memory(_: Subject, settings: BenchSettings) -> Serving:
        (point,) = settings.points
        return Serving({"image": 50.0, "text": 20.0}[point.graph], 1.0, 1.0)

    monkeypatch.setattr(gating, "measuring_processes", processes)
    monkeypatch.setattr(gating, "serving", memory)
    return measured


def test_limits_are_of_a_call_of_each_or_of_one_graph(two: list[list[BenchPoint]], tmp_path: Path) -> None:
    limits = budget(
        p50_ms=4.1, p90_slower=0.01, speedup=0.99, peak_rss_mb=70.0,
        image={"p50_slower": 0.4, "batch": 8}, text={"p90_ms": 1.1, "p50_slower": -0.4},
    )  # fmt: skip
    result = gate(limits, towers("new", tmp_path, {"text": "data"}), towers("old", tmp_path))
    found = {check.key: round(check.found.value, 2) for check in result.checks if check.found is not None}
    assert found == {
        "p50_ms": 4.0, "p90_slower": 0.0, "speedup": 1.0, "image.p50_slower": 0.5, "text.p90_ms": 1.0,
        "text.p50_slower": -0.5, "peak_rss_mb": 70.0,
    }  # fmt: skip
    failed = [check.key for check in result.checks if check.status != "pass"]
    assert failed == ["image.p50_slower"]
    assert two == [[BenchPoint(graph="image", batch=8), BenchPoint(graph="text", inputs="data")]]
    assert result.where == "batch 1 (image 8), 1 thread"


def test_a_graph_that_nothing_is_limited_of_is_not_measured(two: list[list[BenchPoint]], tmp_path: Path) -> None:
    result = gate(budget(text={"p50_ms": 2.0}), towers("new", tmp_path), None)
    assert (result.status, two) == ("pass", [[BenchPoint(graph="text")]])
    gate(budget(graph="image", p50_ms=4.0, peak_rss_mb=51.0), towers("new", tmp_path), None)
    assert two[1:] == [[BenchPoint(graph="image")]]


def test_a_graph_that_is_not_there_is_refused(two: list[list[BenchPoint]], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="new: the budget limits the graph `text`, but it has model"):
        gate(budget(text={"p50_ms": 2.0}), gated("new", 1, tmp_path), None)
    assert two == []
