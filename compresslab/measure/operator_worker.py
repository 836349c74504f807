"""The process that times operators: `python -m compresslab.measure.operator_worker`, a job (JSON) on its stdin.

It reads the time that ONNX Runtime's own profiler notes for each kernel, which is the kernel's alone: what a call costs
beside it would drown a layer of some microseconds. numpy and onnxruntime only.
"""

from __future__ import annotations

import gc
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

import numpy as np
import numpy.typing as npt

from compresslab.measure.kernel_events import kernel_events
from compresslab.measure.runtime import open_graph

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onnxruntime import InferenceSession

COUNTED = (
    "Conv", "FusedConv", "QLinearConv", "ConvInteger", "ConvTranspose",
    "Gemm", "FusedGemm", "QGemm", "MatMul", "FusedMatMul", "QLinearMatMul", "MatMulInteger", "MatMulIntegerToFloat",
    "DynamicQuantizeMatMul",
)  # fmt: skip
"""The operators that multiply channels, as ONNX Runtime names them after it has rewritten a graph."""

# Open at once, and visited in turn, so that what disturbs one disturbs its neighbours.
_SIDE_BY_SIDE = 12
_FEWEST_CALLS = 3
# More add nothing but lines to the profile, which cost more to read than the calls themselves.
_MOST_CALLS = 32
_EMPTY_CALLS = 500


class OperatorJob(TypedDict):
    """What to time: graphs with one float32 input each, of fixed shape but for the batch, or what `given` fits.

    `ruler` is a graph of kernels that do next to nothing, with more and more inputs: the profiler adds to each kernel
    what it takes to write down the inputs' shapes. `empty` is a graph of one such kernel.

    `output` becomes JSON, in microseconds: `times`, for each graph what its counted operators took together at each
    visit, and `inputs`, how many inputs each of those has; `other_times` and `other_inputs`, the same of the operators
    beside them; `own`, at each visit of the ruler a list of inputs and time for each kernel; `calls` and
    `ruler_calls`, whole calls of `empty` and of the ruler without the profiler.
    """

    graphs: list[str]
    ruler: str
    empty: str
    batch: int
    threads: int
    session: dict[str, Any]
    visits: int
    seconds: float
    output: str
    given: str | None
    """A .npy file that every graph is fed; None makes up floats."""


class _Kernel(NamedTuple):
    operator: str
    inputs: int
    durations: list[int]


@dataclass
class _Watched:
    """An open session; `visits` has the number of calls of each visit, unrecorded ones before the first."""

    session: InferenceSession
    feed: dict[str, npt.NDArray[Any]]
    unrecorded: int
    visits: list[int]

    def visit(self, seconds: float) -> None:
        end, calls = perf_counter() + seconds, 0
        while calls < _FEWEST_CALLS or (perf_counter() < end and calls < _MOST_CALLS):
            self.session.run(None, self.feed)
            calls += 1
        self.visits.append(calls)


def main() -> None:
    """Does the job on stdin."""
    job: OperatorJob = json.load(sys.stdin)
    gc.disable()
    found: dict[str, Any] = {"own": [], "calls": _calls(job, job["empty"]), "ruler_calls": _calls(job, job["ruler"])}
    found |= {key: [] for key in ("times", "inputs", "other_times", "other_inputs")}
    with TemporaryDirectory(prefix="compresslab-operators-") as folder:
        # Without any graph, the ruler alone.
        for start in range(0, max(1, len(job["graphs"])), _SIDE_BY_SIDE):
            _measure(job, job["graphs"][start : start + _SIDE_BY_SIDE], Path(folder), found)
            gc.collect()
    Path(job["output"]).write_text(json.dumps(found), encoding="utf-8")


def _measure(job: OperatorJob, graphs: Sequence[str], folder: Path, found: dict[str, Any]) -> None:
    # A prefix for each: profiles of sessions that are opened within a millisecond would have one name.
    paths = (job["ruler"], *graphs)
    watched = [_open(job, path, folder / f"{number}") for number, path in enumerate(paths)]
    for _ in range(job["visits"]):
        for one in watched:
            one.visit(job["seconds"])
    kernels = [_kernels(one) for one in watched]
    ruler = np.stack([_typical(kernel.durations, watched[0]) for kernel in kernels[0]])
    found["own"] += [
        [(kernel.inputs, time) for kernel, time in zip(kernels[0], visit, strict=True)] for visit in ruler.T.tolist()
    ]
    for one, noted in zip(watched[1:], kernels[1:], strict=True):
        counted = [kernel for kernel in noted if kernel.operator in COUNTED]
        assert counted, f"none of {[kernel.operator for kernel in noted]} is a counted operator"
        others = [kernel for kernel in noted if kernel.operator not in COUNTED]
        for key, chosen in (("", counted), ("other_", others)):
            times = [_typical(kernel.durations, one) for kernel in chosen]
            found[f"{key}times"].append(np.sum([np.zeros(job["visits"]), *times], axis=0).tolist())
            found[f"{key}inputs"].append([kernel.inputs for kernel in chosen])


def _open(job: OperatorJob, path: str, profile: Path | None) -> _Watched:
    session = open_graph(Path(path), threads=job["threads"], profile=profile, **job["session"])
    (given,) = session.get_inputs()
    if job["given"] is not None and path in job["graphs"]:
        values = np.load(job["given"])
    else:
        shape = [size if isinstance(size, int) else job["batch"] for size in given.shape]
        values = np.random.default_rng(0).standard_normal(shape, np.float32)
    feed = {given.name: values}
    session.run(None, feed)
    return _Watched(session, feed, 1, [])


def _kernels(one: _Watched) -> list[_Kernel]:
    """What was noted of each kernel at each call, in whole microseconds."""
    path = Path(one.session.end_profiling())
    found: dict[tuple[str, str], _Kernel] = {}
    for event in kernel_events(path):
        kernel = _Kernel(event.operator, event.inputs, [])
        found.setdefault((event.node, event.operator), kernel).durations.append(event.microseconds)
    path.unlink()
    return list(found.values())


def _typical(durations: Sequence[int], one: _Watched) -> npt.NDArray[np.float64]:
    """For each visit the mean of the faster half: the clock's whole microseconds are too coarse for a quantile."""
    assert len(durations) == one.unrecorded + sum(one.visits), "a kernel runs once a call"
    values, start = [], one.unrecorded
    for calls in one.visits:
        visit = np.sort(np.array(durations[start : start + calls], np.float64))
        values.append(visit[: max(1, (calls + 1) // 2)].mean())
        start += calls
    return np.array(values)


def _calls(job: OperatorJob, path: str) -> list[float]:
    """Microseconds of a call of a graph, without the profiler, at each visit."""
    one = _open(job, path, None)
    # All operators run whatever is asked for, but handing out a result costs as much as running one.
    asked = [one.session.get_outputs()[0].name]
    times = []
    for _ in range(job["visits"]):
        noted = []
        for _ in range(_EMPTY_CALLS):
            start = perf_counter()
            one.session.run(asked, one.feed)
            noted.append(perf_counter() - start)
        times.append(1e6 * float(np.quantile(noted, 0.25)))
    return times


if __name__ == "__main__":
    main()
