"""Where a model's time goes: what each kernel takes, from ONNX Runtime's own profile."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from compresslab.measure.kernel_events import kernel_events
from compresslab.measure.session import open_session

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from compresslab.measure.session import SessionOptions

# The first calls touch memory for the first time.
_UNCOUNTED = 3
_CALLS = 12


@dataclass(frozen=True)
class KernelTime:
    """One kernel of the graph as ONNX Runtime runs it.

    Attributes:
        node: The node's name; of a fused one it begins with, or holds, the name of what it was.
        operator: Its type, such as `QLinearConv`.
        microseconds: The mean over the calls but the slowest quarter. The profile counts in whole ones.
    """

    node: str
    operator: str
    microseconds: float


def kernel_times(
    path: Path, options: SessionOptions, feed: Mapping[str, npt.NDArray[Any]], threads: int = 1, calls: int = _CALLS
) -> tuple[KernelTime, ...]:
    """The time of every kernel, in the order they run; some milliseconds beside opening the session.

    Profiling itself takes time, so these figures serve to compare kernels with each other, not to gate a latency.

    Args:
        path: The ONNX file.
        options: How it is run.
        feed: Real inputs, by name.
        threads: Inside an operator.
        calls: How many are counted.

    Raises:
        ArtifactError: The file is missing or broken.
    """
    with TemporaryDirectory(prefix="compresslab-profile-") as folder:
        session = open_session(path, options, threads, profile=Path(folder, "profile"))
        for _ in range(_UNCOUNTED + calls):
            session.run(None, dict(feed))
        found: dict[str, tuple[str, list[float]]] = {}
        for event in kernel_events(Path(session.end_profiling())):
            _, times = found.setdefault(event.node, (event.operator, []))
            times.append(float(event.microseconds))
    # A node without a name shares its kernel's name with others: what they take in a call is then the sum of them.
    runs = _UNCOUNTED + calls
    return tuple(
        KernelTime(node, operator, _typical(_per_call(times, runs)[_UNCOUNTED:]))
        for node, (operator, times) in found.items()
    )


def _per_call(times: list[float], runs: int) -> list[float]:
    size = max(1, len(times) // runs)
    return [sum(times[start : start + size]) for start in range(0, len(times), size)]


def _typical(times: list[float]) -> float:
    kept = sorted(times)[: max(1, len(times) * 3 // 4)]
    return sum(kept) / len(kept)
