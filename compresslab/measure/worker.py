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
from pathlib import Path
from time import perf_counter, perf_counter_ns
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import numpy as np
import numpy.typing as npt

from compresslab.measure.runtime import open_graph

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# A visit is the calls of one model between two others: long enough to drown the caches' change of hands, short enough
# that a disturbance meets all the models.
_VISIT_NS = 5_000_000
# Above this a call outlasts the caches' change of hands, and needs no unrecorded call before it.
_SLOW_CALL_NS = 10_000_000
_MOST_CALLS_A_VISIT = 1000
# With fewer there is nothing to draw resamples from.
_MIN_ROUNDS = 4
_WINDOW_NS = 10_000_000
_STEADY_WINDOWS = 3
_MEMORY_CALLS = 50
_MEMORY_SECONDS = 2.0


class ModelJob(TypedDict):
    """One model: the file of each graph, the inputs (.npy, float32 [n, ...]) and `SessionOptions` as plain data."""

    graphs: dict[str, str]
    inputs: str
    session: dict[str, Any]


class PointJob(TypedDict):
    """One way of calling."""

    graph: str
    batch: int
    threads: int


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
    """A session, its output names, and an endless round of batches."""

    run: Any
    outputs: list[str]
    feeds: Iterator[dict[str, npt.NDArray[np.float32]]]

    def time(self, calls: int) -> list[int]:
        """Nanoseconds of each of so many calls."""
        run, outputs, feeds, clock = self.run, self.outputs, self.feeds, perf_counter_ns
        times = [0] * calls
        for index in range(calls):
            feed = next(feeds)
            start = clock()
            run(outputs, feed)
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
    """Calls until some windows in a row are no faster than the one before them; returns the calls of a visit."""
    deadline = perf_counter() + seconds
    reference = typical = model.time(1)[0]
    steady = 0
    while steady < _STEADY_WINDOWS and perf_counter() < deadline:
        window = max(3, min(500, _WINDOW_NS // max(typical, 1)))
        typical = int(statistics.median(model.time(window)))
        # The reference stays while the model is steady, so that a slow improvement adds up until it is seen.
        if typical < 0.98 * reference:
            reference, steady = typical, 0
        else:
            steady += 1
    if typical > _SLOW_CALL_NS:
        return 1
    return max(2, min(_MOST_CALLS_A_VISIT, _VISIT_NS // max(typical, 1)))


def _memory(job: Job) -> dict[str, Any]:
    """`peak_rss_bytes` of a process that serves this one model."""
    model = _open(job["models"][0], job["points"][0])
    deadline = perf_counter() + _MEMORY_SECONDS
    for call in range(_MEMORY_CALLS):
        model.time(1)
        if call >= 2 and perf_counter() > deadline:
            break
    return {"peak_rss_bytes": np.array(_peak_rss_bytes(), np.int64)}


def _open(model: ModelJob, point: PointJob) -> _Callable:
    session = open_graph(Path(model["graphs"][point["graph"]]), threads=point["threads"], **model["session"])
    name = session.get_inputs()[0].name
    examples, batch = np.load(model["inputs"], mmap_mode="r", allow_pickle=False), point["batch"]
    batches = [np.array(examples[start : start + batch]) for start in range(0, len(examples) - batch + 1, batch)]
    feeds = itertools.cycle([{name: images} for images in batches])
    return _Callable(session.run, [output.name for output in session.get_outputs()], feeds)


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
