"""Latencies at many batch sizes, here and now: what a server on this machine is set up from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compresslab.measure.bench import BenchPoint, BenchSettings, record
from compresslab.measure.latency import summarise
from compresslab.measure.onnx_file import onnx_subject
from compresslab.serving.tensors import takes_batches

if TYPE_CHECKING:
    from collections.abc import Mapping

    from compresslab.measure.artifact import Artifact
    from compresslab.measure.measurement import Latency

BATCHES = (1, 2, 4, 8, 16, 32)


def measure_for_serving(artifact: Artifact, cores: int, dims: Mapping[str, int]) -> tuple[Latency, ...]:
    """Every graph at batches 1 to 32, on one thread and on all cores; some seconds a graph.

    Args:
        artifact: Its graphs are fed made-up tensors of their own types and shapes.
        cores: Of this machine.
        dims: Sizes of dynamic axes other than the first.

    Raises:
        ArtifactError: A dynamic axis has no size.
        BenchmarkFailed: A measuring process died or did not come back.
    """
    found: list[Latency] = []
    session = artifact.manifest.session
    for name, info in artifact.manifest.graphs.items():
        first = info.inputs[0].shape[0] if info.inputs[0].shape else 1
        batches = BATCHES if takes_batches(info) else (first if isinstance(first, int) else 1,)
        points = tuple(BenchPoint(batch=batch, threads=threads) for batch in batches for threads in sorted({1, cores}))
        settings = BenchSettings(points=points, processes=2, min_seconds=0.2, min_count=50, max_seconds=4.0)
        subject = onnx_subject(artifact.graphs[name], batches, dims, session)
        for point, (samples,) in zip(points, record([subject], settings), strict=True):
            found.append(summarise(samples, point.model_copy(update={"graph": name}), session))
    return tuple(found)
