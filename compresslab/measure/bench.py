"""Latency and memory of models, measured in fresh processes that load nothing else (`measure.worker`)."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from compresslab.measure.fresh_process import run_fresh
from compresslab.measure.samples import LatencySamples
from compresslab.measure.session import SessionOptions
from compresslab.measure.subject import EXAMPLE, NO_SETS, Subject, subject_of
from compresslab.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from compresslab.measure.artifact import Artifact
    from compresslab.measure.preprocessing import Samples
    from compresslab.measure.subject import SampleSets
    from compresslab.measure.tower_samples import TowerSamples
    from compresslab.measure.worker import Job, ModelJob

Recorded = list[list[npt.NDArray[np.int64]]]
"""What one process recorded: for each point, for each model, nanoseconds [rounds, calls]."""


class BenchPoint(Settings):
    """One way of calling a model that is measured."""

    batch: Annotated[int, Field(ge=1)] = 1
    """Examples a call."""
    threads: Annotated[int, Field(ge=1)] = 1
    """ONNX Runtime's threads inside an operator."""
    graph: str = "model"
    """Which of the artifact's graphs."""
    inputs: str = EXAMPLE
    """`example`: the first examples of the validation split, preprocessed; `data`: examples spread over it, so that
    texts have the lengths that are met; or the name of one of the task's sets of samples. Texts are as long as the
    longest of a call, not of the split."""
    io_binding: bool = False
    """Whether inputs and outputs are tied to the session beforehand, as a server does that owns its buffers."""


class BenchSettings(Settings):
    """What is measured, and for how long. Times and counts are for each model at each point, over all processes."""

    points: Annotated[tuple[BenchPoint, ...], Field(strict=False, min_length=1)] = (BenchPoint(), BenchPoint(batch=8))
    """The first is the deployment point: speed-ups, the frontier and, unless it says otherwise, the budget read it."""
    min_seconds: Annotated[float, Field(gt=0.0)] = 0.6
    """Measured for at least this long,"""
    min_count: Annotated[int, Field(ge=1)] = 300
    """and for at least this many calls,"""
    max_seconds: Annotated[float, Field(gt=0.0)] = 20.0
    """but, for the sake of slow models, not much longer than this, though there be fewer calls."""
    processes: Annotated[int, Field(ge=1)] = 3
    """Fresh processes: memory layout alone makes one process differ from the next by a few per cent."""
    warmup_seconds: Annotated[float, Field(ge=0.0)] = 0.5
    """The longest warm-up of a model in a process; it ends sooner when the model gets no faster any more."""
    session: Literal["default", "auto"] | SessionOptions = "default"
    """ONNX Runtime's options of the models of a run: `default`, its own; options to use for all; or `auto`, for each
    model the fastest at the deployment point, found by measuring. That takes some seconds a model, and what is chosen
    goes into its manifest, which serving, gate, bench and predict read."""

    @property
    def largest_batch(self) -> int:
        """The largest batch of all points."""
        return max(point.batch for point in self.points)

    @property
    def wanted(self) -> dict[str, int]:
        """What the points are measured with, and the largest batch of each."""
        found: dict[str, int] = {}
        for point in self.points:
            found[point.inputs] = max(point.batch, found.get(point.inputs, 1))
        return found


@dataclass(frozen=True)
class Serving:
    """What a fresh process that serves one model needs: peak memory (millions of bytes), and times in milliseconds.

    `load_ms` is opening the session with the file in the system's cache; `first_ms` is the first call.
    """

    peak_rss_mb: float
    load_ms: float
    first_ms: float


def interleaved(
    artifacts: Sequence[Artifact],
    examples: Samples | TowerSamples,
    settings: BenchSettings,
    sets: SampleSets = NO_SETS,
) -> tuple[tuple[LatencySamples, ...], ...]:
    """Measures artifacts side by side, so that what disturbs one disturbs all.

    Args:
        artifacts: The models to compare.
        examples: Real samples, as the preprocessing takes them; the first few are used, or some of all.
        settings: Where and for how long.
        sets: Other samples, by the names that points have for them.

    Returns:
        For each point, the samples of each artifact.

    Raises:
        BenchmarkFailed: A measuring process died or did not come back.
        ArtifactError: An artifact has no such graph.
        DataError: There are no examples.
    """
    return record([subject_of(artifact, examples, settings.wanted, sets) for artifact in artifacts], settings)


def record(subjects: Sequence[Subject], settings: BenchSettings) -> tuple[tuple[LatencySamples, ...], ...]:
    """As `interleaved`, for models of any kind.

    Raises:
        BenchmarkFailed: A measuring process died or did not come back.
        ArtifactError: A model has no such graph.
    """
    with measuring_processes(subjects, settings) as process:
        recorded = [process(number) for number in range(settings.processes)]
    return tuple(
        tuple(LatencySamples(tuple(one[point][model] for one in recorded)) for model in range(len(subjects)))
        for point in range(len(settings.points))
    )


@contextmanager
def measuring_processes(subjects: Sequence[Subject], settings: BenchSettings) -> Iterator[Callable[[int], Recorded]]:
    """A function that runs the process of a number, for as many as are wanted; inputs are written once.

    Each measures its share of `settings` (a `processes`-th). It loads and visits the models in an order of its own:
    neither memory layout nor place in the round favours one.

    Raises:
        ArtifactError: A model has no such graph.
    """
    with TemporaryDirectory(prefix="compresslab-bench-") as folder:
        job = _job("latency", subjects, settings, Path(folder))

        def process(number: int) -> Recorded:
            order = [(number + place) % len(subjects) for place in range(len(subjects))]
            arrays = _in_fresh_process({**job, "models": [job["models"][model] for model in order]}, subjects)
            return [
                [arrays[f"point{point}_model{order.index(model)}"] for model in range(len(subjects))]
                for point in range(len(settings.points))
            ]

        yield process


def serving(subject: Subject, settings: BenchSettings) -> Serving:
    """What a fresh process that only serves this model, at the first point, needs.

    Raises:
        BenchmarkFailed: The measuring process died or did not come back.
        ArtifactError: The model has no such graph.
    """
    with TemporaryDirectory(prefix="compresslab-bench-") as folder:
        found = _in_fresh_process(_job("memory", [subject], settings, Path(folder)), [subject])
    return Serving(float(found["peak_rss_bytes"]) / 1e6, float(found["load_ns"]) / 1e6, float(found["first_ns"]) / 1e6)


def peak_rss_mb(
    artifact: Artifact, examples: Samples | TowerSamples, settings: BenchSettings, sets: SampleSets = NO_SETS
) -> float:
    """Peak resident memory, in millions of bytes, of a process that only runs this artifact at the first point.

    Raises:
        BenchmarkFailed: The measuring process died or did not come back.
        ArtifactError: The artifact has no such graph.
        DataError: There are no examples.
    """
    return serving(subject_of(artifact, examples, settings.wanted, sets), settings).peak_rss_mb


def _job(kind: Literal["latency", "memory"], subjects: Sequence[Subject], settings: BenchSettings, folder: Path) -> Job:
    pairs = list(dict.fromkeys((point.graph, point.inputs) for point in settings.points))
    models: list[ModelJob] = []
    for number, subject in enumerate(subjects):
        files = {graph: str(subject.file(graph)) for graph, _ in pairs}
        inputs: dict[str, dict[str, str]] = {graph: {} for graph in files}
        for place, (graph, name) in enumerate(pairs):
            inputs[graph][name] = str(folder / f"{number}-{place}.npz")
            # Prefixed, as an input may be called what a parameter of numpy's is.
            arrays = {f"input:{key}": array for key, array in subject.fed(graph, name).items()}
            np.savez(inputs[graph][name], allow_pickle=False, **arrays)
        session = subject.session.model_dump(mode="json")
        models.append({"graphs": files, "inputs": inputs, "session": session, "padding": subject.padding})
    return {
        "kind": kind,
        "models": models,
        "points": [
            {
                "graph": point.graph,
                "batch": point.batch,
                "threads": point.threads,
                "io_binding": point.io_binding,
                "inputs": point.inputs,
            }
            for point in settings.points
        ],
        "min_seconds": settings.min_seconds / settings.processes,
        "min_count": math.ceil(settings.min_count / settings.processes),
        "max_seconds": settings.max_seconds / settings.processes,
        "warmup_seconds": settings.warmup_seconds,
        "output": str(folder / "samples.npz"),
    }


def _in_fresh_process(job: Job, subjects: Sequence[Subject]) -> dict[str, npt.NDArray[np.int64]]:
    names = ", ".join(str(path) for subject in subjects for path in subject.graphs.values())
    seconds = job["warmup_seconds"] + job["min_seconds"] + job["max_seconds"]
    limit = 300.0 + 10.0 * seconds * len(job["models"]) * len(job["points"])
    run_fresh("compresslab.measure.worker", job, names, limit)
    with np.load(job["output"], allow_pickle=False) as arrays:
        return dict(arrays)
