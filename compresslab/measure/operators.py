"""The time of single operators on this machine, from ONNX Runtime's profiler in fresh processes."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from compresslab.measure.fresh_process import run_fresh

if TYPE_CHECKING:
    from compresslab.measure.operator_worker import OperatorJob
    from compresslab.measure.session import SessionOptions

_Noted: TypeAlias = tuple[float, list[int]]
_LONGEST_CALL_SECONDS = 2.0
# What is said of a kernel that the profiler's clock cannot tell from none.
_LEAST_MS = 1e-5


@dataclass(frozen=True)
class OperatorTimes:
    """What graphs take, part by part, in milliseconds.

    Args:
        ms: Each graph's convolutions and matrix products.
        others_ms: Its other operators.
        kernels: How many operators it has.
        kernel_ms: What each of them costs a call beside its own work.
        call_ms: What a call costs of a graph with one operator that does nothing.
    """

    ms: tuple[float, ...]
    others_ms: tuple[float, ...]
    kernels: tuple[int, ...]
    kernel_ms: float
    call_ms: float


def time_operators(
    graphs: Sequence[Path],
    ruler: Path,
    empty: Path,
    *,
    session: SessionOptions,
    batch: int = 1,
    threads: int = 1,
    processes: int = 2,
    visits: int = 3,
    seconds: float = 0.008,
    given: npt.NDArray[np.generic] | None = None,
) -> OperatorTimes:
    """Times the operators of graphs with one input each.

    The best of `processes` times `visits` is taken, each the mean of the faster half of its calls: other work on the
    machine only ever adds time. What the profiler adds to a kernel is taken off, as found on `ruler`.

    Args:
        graphs: ONNX files.
        ruler: A graph of kernels that do next to nothing, each with another number of inputs.
        empty: A graph of one such kernel.
        session: How they are run.
        batch: Examples, where a graph leaves that open.
        threads: Inside an operator.
        processes: Fresh ones, each with its own layout of memory.
        visits: Of each graph in a process, others between them.
        seconds: A visit, or three calls where they take longer.
        given: What every graph is fed, such as ids of a text's tokens; None makes up floats of the graph's own shape,
            which must be fixed but for the batch.

    Raises:
        BenchmarkFailed: A measuring process died or did not come back.
    """
    layers: list[_Noted] = [(math.inf, [])] * len(graphs)
    others = list(layers)
    own, call, ruler_call = dict[int, float](), math.inf, math.inf
    with TemporaryDirectory(prefix="compresslab-operators-") as folder:
        job: OperatorJob = {
            "graphs": [str(path) for path in graphs],
            "ruler": str(ruler),
            "empty": str(empty),
            "batch": batch,
            "threads": threads,
            "session": session.model_dump(mode="json"),
            "visits": visits,
            "seconds": seconds,
            "output": str(Path(folder, "times.json")),
            "given": None if given is None else str(Path(folder, "given.npy")),
        }
        if given is not None:
            np.save(Path(folder, "given.npy"), given, allow_pickle=False)
        limit = 300.0 + len(graphs) * (1.0 + visits * 3 * _LONGEST_CALL_SECONDS)
        for number in range(processes):
            # Neighbours are visited side by side; the second process comes to them from the other end.
            order = range(len(graphs)) if number % 2 == 0 else range(len(graphs) - 1, -1, -1)
            run_fresh(
                "compresslab.measure.operator_worker",
                {**job, "graphs": [job["graphs"][index] for index in order]},
                f"{len(graphs)} single layers",
                limit,
            )
            found = json.loads(Path(job["output"]).read_text(encoding="utf-8"))
            _note(layers, order, found["times"], found["inputs"])
            _note(others, order, found["other_times"], found["other_inputs"])
            for kernel, time in itertools.chain(*found["own"]):
                own[kernel] = min(own.get(kernel, math.inf), time)
            call, ruler_call = min(call, *found["calls"]), min(ruler_call, *found["ruler_calls"])
    # The clock cuts off what is less than a microsecond; along the ruler, that averages out.
    slope, start = np.polyfit(list(own), list(own.values()), 1)

    def found_ms(noted: _Noted) -> float:
        time, inputs = noted
        return max(_LEAST_MS, float(time - sum(start + slope * count for count in inputs)) / 1e3)

    return OperatorTimes(
        ms=tuple(map(found_ms, layers)),
        others_ms=tuple(map(found_ms, others)),
        kernels=tuple(len(one[1]) + len(other[1]) for one, other in zip(layers, others, strict=True)),
        kernel_ms=max(0.0, ruler_call - call) / (len(own) - 1) / 1e3,
        call_ms=call / 1e3,
    )


def _note(noted: list[_Noted], order: Iterable[int], times: Iterable[list[float]], inputs: Iterable[list[int]]) -> None:
    """The least time of each graph so far."""
    for index, visits, counts in zip(order, times, inputs, strict=True):
        noted[index] = (min(noted[index][0], *visits), counts)
