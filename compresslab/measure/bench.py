"""Latency and memory of artifacts, measured in fresh processes that load nothing else (`measure.worker`)."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

import compresslab.measure
from compresslab.errors import ArtifactError, BenchmarkFailed, DataError
from compresslab.measure.samples import LatencySamples
from compresslab.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from compresslab.measure.artifact import Artifact
    from compresslab.measure.worker import Job, ModelJob

# So many different examples are called in turn: kernels do not look at values, but caches and denormals do.
_EXAMPLES = 32


class BenchPoint(Settings):
    """One way of calling a model that is measured."""

    batch: Annotated[int, Field(ge=1)] = 1
    """Examples a call."""
    threads: Annotated[int, Field(ge=1)] = 1
    """ONNX Runtime's threads inside an operator."""
    graph: str = "model"
    """Which of the artifact's graphs."""
    inputs: Literal["example"] = "example"
    """`example`: the first examples of the validation split, preprocessed."""


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


def interleaved(
    artifacts: Sequence[Artifact], examples: npt.NDArray[np.uint8], settings: BenchSettings
) -> tuple[tuple[LatencySamples, ...], ...]:
    """Measures artifacts side by side, so that what disturbs one disturbs all.

    Args:
        artifacts: The models to compare.
        examples: Real inputs, uint8 as the preprocessing takes them; the first few are used.
        settings: Where and for how long.

    Returns:
        For each point, the samples of each artifact.

    Raises:
        BenchmarkFailed: A measuring process died or did not come back.
        ArtifactError: An artifact has no such graph.
        DataError: There are no examples.
    """
    recorded: list[list[list[npt.NDArray[np.int64]]]] = [[[] for _ in artifacts] for _ in settings.points]
    with TemporaryDirectory(prefix="compresslab-bench-") as folder:
        job = _job("latency", artifacts, examples, settings, Path(folder))
        for process in range(settings.processes):
            # Each process loads and visits in another order: neither memory layout nor place in the round favours one.
            order = [(process + place) % len(artifacts) for place in range(len(artifacts))]
            arrays = _in_fresh_process({**job, "models": [job["models"][number] for number in order]}, artifacts)
            for index, point in enumerate(recorded):
                for place, number in enumerate(order):
                    point[number].append(arrays[f"point{index}_model{place}"])
    return tuple(tuple(LatencySamples(tuple(model)) for model in point) for point in recorded)


def peak_rss_mb(artifact: Artifact, examples: npt.NDArray[np.uint8], settings: BenchSettings) -> float:
    """Peak resident memory, in millions of bytes, of a process that only runs this artifact at the first point.

    Raises:
        BenchmarkFailed: The measuring process died or did not come back.
        ArtifactError: The artifact has no such graph.
        DataError: There are no examples.
    """
    with TemporaryDirectory(prefix="compresslab-bench-") as folder:
        job = _job("memory", [artifact], examples, settings, Path(folder))
        return float(_in_fresh_process(job, [artifact])["peak_rss_bytes"]) / 1e6


def _job(
    kind: Literal["latency", "memory"],
    artifacts: Sequence[Artifact],
    examples: npt.NDArray[np.uint8],
    settings: BenchSettings,
    folder: Path,
) -> Job:
    if len(examples) == 0:
        raise DataError("there are no examples to measure with; give a validation split")
    wanted = max(_EXAMPLES, *(point.batch for point in settings.points))
    chosen = examples[np.arange(wanted) % len(examples)]
    models: list[ModelJob] = []
    for number, artifact in enumerate(artifacts):
        for point in settings.points:
            if point.graph not in artifact.graphs:
                raise ArtifactError(
                    f"{artifact.folder}: bench names the graph `{point.graph}`, but it has {', '.join(artifact.graphs)}"
                )
        inputs = folder / f"{number}.npy"
        np.save(inputs, artifact.manifest.preprocessing.normalize(chosen))
        models.append(
            {
                "graphs": {name: str(path) for name, path in artifact.graphs.items()},
                "inputs": str(inputs),
                "session": artifact.manifest.session.model_dump(mode="json"),
            }
        )
    return {
        "kind": kind,
        "models": models,
        "points": [{"graph": point.graph, "batch": point.batch, "threads": point.threads} for point in settings.points],
        "min_seconds": settings.min_seconds / settings.processes,
        "min_count": math.ceil(settings.min_count / settings.processes),
        "max_seconds": settings.max_seconds / settings.processes,
        "warmup_seconds": settings.warmup_seconds,
        "output": str(folder / "samples.npz"),
    }


def _in_fresh_process(job: Job, artifacts: Sequence[Artifact]) -> dict[str, npt.NDArray[np.int64]]:
    names = ", ".join(str(path) for artifact in artifacts for path in artifact.graphs.values())
    # -P: what lies in the working directory must not shadow numpy; the package may not be installed at all.
    package = str(Path(compresslab.measure.__path__[0]).parents[1])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OPENBLAS_NUM_THREADS": "1"}
    seconds = job["warmup_seconds"] + job["min_seconds"] + job["max_seconds"]
    limit = 300.0 + 10.0 * seconds * len(job["models"]) * len(job["points"])
    try:
        ended = subprocess.run(
            [sys.executable, "-P", "-m", "compresslab.measure.worker"],
            input=json.dumps(job),
            capture_output=True,
            text=True,
            errors="replace",
            env=environment,
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BenchmarkFailed(
            f"measuring {names} did not end within {limit:.0f} s; the machine is overloaded, or the model hangs"
        ) from error
    if ended.returncode != 0:
        raise BenchmarkFailed(
            f"the process that measured {names} died ({_cause(ended.returncode)}); its last words: "
            f"{ended.stderr.strip()[-1500:] or 'none'}"
        )
    with np.load(job["output"], allow_pickle=False) as arrays:
        return dict(arrays)


def _cause(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    hint = ", perhaps out of memory" if -code == signal.SIGKILL else ""
    return f"{signal.Signals(-code).name}{hint}"
