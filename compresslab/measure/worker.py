"""The measuring process: `python -m compresslab.measure.worker` reads a job (JSON) on stdin and writes an npz file.

It loads numpy and onnxruntime and nothing else of weight, so that its memory and its caches are the models'.
"""

from __future__ import annotations

import gc
import itertools
import json
import resource
import statistics
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter, perf_counter_ns
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import numpy as np

from compresslab.measure.padding import trimmed
from compresslab.measure.runtime import open_graph
from compresslab.measure.steady import steady_from

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from onnxruntime import InferenceSession, IOBinding

# A visit is the calls of one model between two others: long enough to drown the caches' change of hands, short enough
# that a disturbance meets all the models.
_VISIT_NS = 5_000_000
# Above this a call outlasts the caches' change of hands, and needs no unrecorded call before it.
_SLOW_CALL_NS = 10_000_000
_MOST_CALLS_A_VISIT = 1000
# With fewer there is nothing to draw resamples from.
_MIN_ROUNDS = 4
# Warm-up is watched through the medians of windows of so much time, and ends with so many that get no faster.
_WINDOW_NS = 3_000_000
_STEADY_WINDOWS = 12
_MEMORY_CALLS = 50
# Stands before the names of inputs in a job's files.
_INPUT = "input:"
_MEMORY_SECONDS = 2.0


class ModelJob(TypedDict):
    """One model: each graph's file and, by the samples they are of, inputs (.npz, an array [n, ...] a name).

    The session is `SessionOptions` as plain data; `padding` is what texts are filled up with, None of other samples.
    """

    graphs: dict[str, str]
    inputs: dict[str, dict[str, str]]
    session: dict[str, Any]
    padding: int | None


class PointJob(TypedDict):
    """One way of calling."""

    graph: str
    batch: int
    threads: int
    io_binding: bool
    inputs: str


class Job(TypedDict):
    """What to measure. Seconds and calls are for each model at each point in this process."""

    kind: Literal["latency", "memory"]
    models: list[ModelJob]
    points: list[PointJob]
    min_seconds: float
    min_count: int
    max_seconds: float
    warmup_seconds: float
    output: str


@dataclass(frozen=True)
class _Callable:
    """A session's call, and an endless round of what it is called with."""

    call: Callable[[Any], object]
    feeds: Iterator[Any]

    def time(self, calls: int) -> list[int]:
        """Nanoseconds of each of so many calls."""
        call, feeds, clock = self.call, self.feeds, perf_counter_ns
        times = [0] * calls
        for index in range(calls):
            feed = next(feeds)
            start = clock()
            call(feed)
            times[index] = clock() - start
        return times


def main() -> None:
    """Does the job on stdin."""
    job: Job = json.load(sys.stdin)
    # A collection in the middle of a call would be counted as the model's.
    gc.collect()
    gc.freeze()
    gc.disable()
    np.savez(job["output"], **(_memory(job) if job["kind"] == "memory" else _latencies(job)))


def _latencies(job: Job) -> dict[str, Any]:
    """`point{i}_model{j}`: nanoseconds, [rounds, calls]."""
    arrays: dict[str, Any] = {}
    for index, point in enumerate(job["points"]):
        models = [_open(model, point) for model in job["models"]]
        calls = [_warm_up(model, job["warmup_seconds"]) for model in models]
        recorded = _interleave(models, calls, job)
        for number, rounds in enumerate(recorded):
            arrays[f"point{index}_model{number}"] = np.array(rounds, np.int64)
    return arrays


def _interleave(models: Sequence[_Callable], calls: Sequence[int], job: Job) -> list[list[list[int]]]:
    """Rounds of A B C C B A, in which a steady drift of the machine cancels, until every model has enough."""
    order = [*range(len(models)), *reversed(range(len(models)))]
    recorded: list[list[list[int]]] = [[] for _ in models]
    spent, counts = [0] * len(models), [0] * len(models)

    def enough(number: int) -> bool:
        seconds = spent[number] / 1e9
        return seconds >= job["max_seconds"] or (seconds >= job["min_seconds"] and counts[number] >= job["min_count"])

    while len(recorded[0]) < _MIN_ROUNDS or not all(enough(number) for number in range(len(models))):
        for rounds in recorded:
            rounds.append([])
        for number in order:
            if calls[number] > 1:
                models[number].time(1)
            times = models[number].time(calls[number])
            recorded[number][-1].extend(times)
            spent[number] += sum(times)
            counts[number] += len(times)
    return recorded


def _warm_up(model: _Callable, seconds: float) -> int:
    """Calls until no change-point shows the model getting faster; returns the calls of a visit."""
    deadline = perf_counter() + seconds
    medians = [model.time(1)[0]]
    steady = 0
    while len(medians) - steady < _STEADY_WINDOWS and perf_counter() < deadline:
        typical = max(medians[-1], 1)
        window = 1 if typical > _SLOW_CALL_NS else max(3, min(500, _WINDOW_NS // typical))
        medians.append(int(statistics.median(model.time(window))))
        steady += steady_from(medians[steady:])
    typical = int(statistics.median(medians[steady:]))
    if typical > _SLOW_CALL_NS:
        return 1
    return max(2, min(_MOST_CALLS_A_VISIT, _VISIT_NS // max(typical, 1)))


def _memory(job: Job) -> dict[str, Any]:
    """`peak_rss_bytes` of a process that serves this one model, and how long it took to be ready.

    `load_ns` is opening the session, the file being in the system's cache; `first_ns` the first call after it.
    """
    begun = perf_counter_ns()
    session = _session(job["models"][0], job["points"][0])
    loaded = perf_counter_ns()
    model = _callable(session, job["models"][0], job["points"][0])
    first = model.time(1)[0]
    deadline = perf_counter() + _MEMORY_SECONDS
    for call in range(_MEMORY_CALLS):
        model.time(1)
        if call >= 2 and perf_counter() > deadline:
            break
    figures = {"peak_rss_bytes": _peak_rss_bytes(), "load_ns": loaded - begun, "first_ns": first}
    return {name: np.array(value, np.int64) for name, value in figures.items()}


def _open(model: ModelJob, point: PointJob) -> _Callable:
    return _callable(_session(model, point), model, point)


def _session(model: ModelJob, point: PointJob) -> InferenceSession:
    return open_graph(Path(model["graphs"][point["graph"]]), threads=point["threads"], **model["session"])


def _callable(session: InferenceSession, model: ModelJob, point: PointJob) -> _Callable:
    feeds = _feeds(model["inputs"][point["graph"]][point["inputs"]], point["batch"], model["padding"])
    outputs = [output.name for output in session.get_outputs()]
    if not point["io_binding"]:
        return _Callable(partial(session.run, outputs), itertools.cycle(feeds))
    bindings = [_bound(session, feed, outputs) for feed in feeds]
    return _Callable(session.run_with_iobinding, itertools.cycle(bindings))


def _feeds(file: str, batch: int, padding: int | None) -> list[dict[str, Any]]:
    """Whole batches, one after the other; what has no axis to cut is the same in each.

    Texts lose the padding that none of a batch needs: they are called at the lengths that they have.
    """
    with np.load(file, allow_pickle=False) as loaded:
        arrays = {name.removeprefix(_INPUT): array for name, array in loaded.items()}
    rows = min((len(array) for array in arrays.values() if array.ndim), default=batch)
    feeds = [
        {name: np.array(array[start : start + batch]) if array.ndim else array for name, array in arrays.items()}
        for start in range(0, rows - batch + 1, batch)
    ]
    if padding is None:
        return feeds
    return [
        # Beside a graph that reads ids of tokens there may be one that reads pixels.
        {name: trimmed(array, padding) if array.dtype.kind == "i" else array for name, array in feed.items()}
        for feed in feeds
    ]


def _bound(session: InferenceSession, feed: dict[str, Any], outputs: Sequence[str]) -> IOBinding:
    """Inputs and outputs tied to the session beforehand, so that a call copies and allocates nothing of them."""
    binding = session.io_binding()
    for name, array in feed.items():
        binding.bind_cpu_input(name, array)
    for name in outputs:
        binding.bind_output(name)
    return binding


def _peak_rss_bytes() -> int:
    """Linux's VmHWM: unlike getrusage's figure, it is not inherited from the process that started this one."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    main()
