"""Which session options a model is fastest with at the deployment point, found by measuring, its answers kept."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from compresslab.measure.bench import record
from compresslab.measure.comparison import Comparison, compare
from compresslab.measure.evaluate import predict
from compresslab.measure.samples import LatencySamples
from compresslab.measure.session import SessionOptions, open_session
from compresslab.measure.subject import NO_SETS, Subject, subject_of

if TYPE_CHECKING:
    from compresslab.measure.artifact import Artifact
    from compresslab.measure.bench import BenchSettings
    from compresslab.measure.preprocessing import Samples
    from compresslab.measure.subject import SampleSets

_SKIP_NORM = "SkipLayerNormFusion"
_FUSED_NORM = b"SkipLayerNormalization"
_CHECKED = 512
# Of what a float graph may differ by, in another order of summation; and a quantized one, which moves by whole steps.
_FLOAT, _QUANTIZED, _AGREEMENT = 1e-4, 0.1, 0.99


@dataclass(frozen=True)
class Tried:
    """Options beside those the artifact had, measured with them: `speedup` above 1 is faster; or why they are out."""

    session: SessionOptions
    speedup: tuple[float, float, float] | None
    refused: str | None = None

    def plain(self) -> dict[str, Any]:
        """As a record for a lock file: what it is called, and how it did."""
        told: dict[str, Any] = {"session": self.session.label}
        if self.speedup is not None:
            told["speedup"] = [round(value, 3) for value in self.speedup]
        return told | ({} if self.refused is None else {"refused": self.refused})


@dataclass(frozen=True)
class SessionChoice:
    """The options to deploy with, and all that were measured."""

    session: SessionOptions
    tried: tuple[Tried, ...]


def choose_session(
    artifact: Artifact, examples: Samples, settings: BenchSettings, sets: SampleSets = NO_SETS
) -> SessionChoice:
    """The options with which the artifact is proven faster than with its own, else its own.

    Tried are: one level of optimisation less, where that gives another graph; no fusion of LayerNorm with the sum
    before it, where there is one; threads that spin, where there are several. Those that win are tried together too.
    A thread that spins takes its core from whatever is measured beside it, so that is measured in processes of its own,
    in turn with the others. Options under which answers change are refused.

    Args:
        artifact: With the options it would have.
        examples: Real samples, as its preprocessing takes them.
        settings: The bench; its first point is where the choice is made.
        sets: Other samples, by the names that points have for them.

    Raises:
        BenchmarkFailed: A measuring process died.
        ArtifactError: The artifact has no such graph.
    """
    point = settings.points[0]
    settings = settings.model_copy(update={"points": (point,)})
    own = artifact.manifest.session
    path = artifact.graphs[point.graph]
    tried: list[Tried] = []
    beside, apart = _alternatives(path, own, point.threads)
    reference = predict(artifact, examples[:_CHECKED])
    quantized = artifact.manifest.integer_operators.eligible > 0

    def compared(options: list[SessionOptions], *, spinning: bool) -> list[Comparison]:
        models = (artifact, *_all(artifact, options)) if options else ()
        return _compared([subject_of(one, examples, settings.wanted, sets) for one in models], settings, spinning)

    def measured(options: list[SessionOptions], *, spinning: bool) -> None:
        allowed = []
        for one in options:
            found = _difference(reference, predict(_with(artifact, one), examples[:_CHECKED]), quantized)
            if found is None:
                allowed.append(one)
            else:
                tried.append(Tried(one, None, found))
        for one, comparison in zip(allowed, compared(allowed, spinning=spinning), strict=True):
            speedup = comparison.speedup
            tried.append(Tried(one, (speedup.value, speedup.low, speedup.high)))
            if comparison.verdict == "faster":
                winners.append((speedup.value, one))

    winners: list[tuple[float, SessionOptions]] = []
    measured(beside, spinning=False)
    measured(apart, spinning=True)
    if len(winners) > 1:
        together = own
        for _, one in winners:
            together = _joined(own, together, one)
        measured([together], spinning=together.allow_spinning)
    best = max(winners, key=lambda one: one[0], default=(1.0, own))
    return SessionChoice(best[1], tuple(tried))


def _alternatives(path: Path, own: SessionOptions, threads: int) -> tuple[list[SessionOptions], list[SessionOptions]]:
    """What may be measured beside the others, and what must be measured apart."""
    beside = []
    with TemporaryDirectory(prefix="compresslab-session-") as folder:

        def optimised(options: SessionOptions) -> bytes:
            file = Path(folder, "optimised.onnx")
            open_session(path, options, 1, optimized=file)
            return file.read_bytes()

        usual = optimised(own)
        if own.graph_optimization == "all":
            less = own.model_copy(update={"graph_optimization": "extended"})
            if optimised(less) != usual:
                beside.append(less)
        if _FUSED_NORM in usual:
            names = (*own.disabled_optimizers, _SKIP_NORM)
            beside.append(own.model_copy(update={"disabled_optimizers": names}))
    spins = threads > 1 and not own.allow_spinning
    return beside, [own.model_copy(update={"allow_spinning": True})] if spins else []


def _compared(subjects: list[Subject], settings: BenchSettings, apart: bool) -> list[Comparison]:
    """Each against the first, which has the artifact's own options."""
    if not subjects:
        return []
    if not apart:
        own, *others = record(subjects, settings)[0]
        return [compare(one, own) for one in others]
    alone = settings.model_copy(
        update={
            "processes": 1,
            "min_seconds": settings.min_seconds / settings.processes,
            "min_count": -(-settings.min_count // settings.processes),
            "max_seconds": settings.max_seconds / settings.processes,
        }
    )
    found: list[list[npt.NDArray[np.int64]]] = [[] for _ in subjects]
    for _ in range(settings.processes):
        for number, subject in enumerate(subjects):
            found[number].extend(record([subject], alone)[0][0].processes)
    return [compare(*_even(one, found[0])) for one in found[1:]]


def _even(
    one: list[npt.NDArray[np.int64]], other: list[npt.NDArray[np.int64]]
) -> tuple[LatencySamples, LatencySamples]:
    """Processes that ran apart have as many rounds as they pleased; a comparison wants them paired."""
    rounds = [min(len(ours), len(theirs)) for ours, theirs in zip(one, other, strict=True)]
    return (
        LatencySamples(tuple(process[:count] for process, count in zip(one, rounds, strict=True))),
        LatencySamples(tuple(process[:count] for process, count in zip(other, rounds, strict=True))),
    )


def _all(artifact: Artifact, options: list[SessionOptions]) -> list[Artifact]:
    return [_with(artifact, one) for one in options]


def _with(artifact: Artifact, session: SessionOptions) -> Artifact:
    return replace(artifact, manifest=artifact.manifest.model_copy(update={"session": session}))


def _joined(own: SessionOptions, one: SessionOptions, other: SessionOptions) -> SessionOptions:
    """What either changes of `own`."""
    changed = {name: value for name, value in other if value != getattr(own, name)}
    return one.model_copy(update=changed)


def _difference(usual: npt.NDArray[np.float32], other: npt.NDArray[np.float32], quantized: bool) -> str | None:
    """How the answers differ, where that is by more than rounding: None where they may be served instead."""
    scale = float(np.abs(usual).max())
    largest = float(np.abs(usual - other).max())
    limit = _QUANTIZED * scale if quantized else _FLOAT * max(1.0, scale)
    if largest > limit:
        return f"its outputs differ by {largest:.3g}, where {limit:.3g} is allowed"
    agreement = float((usual.argmax(axis=1) == other.argmax(axis=1)).mean())
    if agreement < _AGREEMENT:
        return f"it answers the same for only {agreement:.1%} of the inputs"
    return None
