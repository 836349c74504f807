"""The machine's clock, as stages are given it: layers by a table, networks exported and run side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from compresslab.measure.bench import interleaved
from compresslab.measure.intervals import latency_ratio
from compresslab.measure.subject import NO_SETS
from compresslab.measure.text_preprocessing import TextPreprocessing
from compresslab.pruning.clock import Timing
from compresslab.pruning.latency_table import LatencyTable
from compresslab.world import on_main

if TYPE_CHECKING:
    import numpy.typing as npt

    from compresslab.candidate import TorchModel
    from compresslab.measure.artifact import Artifact
    from compresslab.measure.bench import BenchSettings
    from compresslab.measure.preprocessing import Samples
    from compresslab.measure.subject import SampleSets
    from compresslab.pruning.costs import Beside
    from compresslab.pruning.one_layer import Precision
    from compresslab.store import Store

# Texts that are tokenised to know how long they are.
_LENGTHS = 200


class MachineClock:
    """This machine at the deployment point, the first of the bench's points.

    Args:
        store: Where times of layers are kept.
        bench: How latency is measured.
        examples: Real samples, as the preprocessing takes them.
        export: Writes a network's artifact into a folder.
        on_measuring: Told, in a sentence, what is about to take time.
        sets: Other samples, by the names that points of the bench have for them.
    """

    def __init__(
        self,
        store: Store,
        bench: BenchSettings,
        examples: Samples,
        export: Callable[[TorchModel, Path], Artifact],
        on_measuring: Callable[[str], None],
        sets: SampleSets = NO_SETS,
    ) -> None:
        self._store = store
        self._bench = bench.model_copy(update={"points": bench.points[:1]})
        self._examples = examples
        self._export = export
        self._on_measuring = on_measuring
        self._sets = sets

    def table(self, precision: Precision) -> LatencyTable:
        """The times of layers in this precision; those that nobody asked for yet are measured when they are."""
        point = self._bench.points[0]
        return LatencyTable(
            self._store, precision, batch=point.batch, threads=point.threads, on_measuring=self._on_measuring
        )

    def beside(self, model: TorchModel, precision: Precision) -> Beside:
        """What the network takes beside its layers, by ONNX Runtime's profile of it.

        Raises:
            BenchmarkFailed: The measuring process died.
            ModelError: The network cannot be exported.
        """

        def timed() -> Beside:
            with TemporaryDirectory(prefix="compresslab-clock-") as folder:
                artifact = self._export(model, Path(folder))
                graph = self._bench.points[0].graph
                return self.table(precision).beside(artifact.graphs[graph], self._tokens(artifact))

        return on_main(timed)

    def _tokens(self, artifact: Artifact) -> npt.NDArray[np.generic] | None:
        """Texts of the median length, as ids, for a graph that reads these; None for others."""
        reads = artifact.manifest.preprocessing
        if not isinstance(reads, TextPreprocessing):
            return None
        point = self._bench.points[0]
        texts = self._sets.get(point.inputs, self._examples)
        rows = np.linspace(0, len(texts) - 1, min(_LENGTHS, len(texts))).astype(int)
        ids = sorted((reads.graph_input(texts[[row]]) for row in rows), key=lambda one: one.shape[1])
        return np.repeat(ids[len(ids) // 2], point.batch, axis=0)

    def measure(self, models: Sequence[TorchModel]) -> tuple[Timing, ...]:
        """Networks, exported and measured interleaved.

        Raises:
            BenchmarkFailed: A measuring process died.
            ModelError: A network cannot be exported.
        """
        return on_main(lambda: self._measured(models))

    def _measured(self, models: Sequence[TorchModel]) -> tuple[Timing, ...]:
        with TemporaryDirectory(prefix="compresslab-clock-") as folder:
            artifacts = [self._export(model, Path(folder, str(number))) for number, model in enumerate(models)]
            (samples,) = interleaved(artifacts, self._examples, self._bench, self._sets)
        first = samples[0]
        return tuple(Timing(one.median_ms, latency_ratio(one.milliseconds, first.milliseconds)) for one in samples)
