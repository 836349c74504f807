"""Measurements in the store: made once for each artifact, machine, bench and split, and what it is held against."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from compresslab.digest import code_digest, digest_of
from compresslab.errors import DataError
from compresslab.export.operator_times import with_times
from compresslab.measure.evaluate import EvalBenchmark, EvalSplit
from compresslab.measure.machine import fingerprint
from compresslab.measure.measurement_io import from_json, to_json
from compresslab.measure.measuring import Measurer
from compresslab.measure.tower_samples import TowerSamples
from compresslab.tasks.task import metric_digest
from compresslab.world import on_main

if TYPE_CHECKING:
    from collections.abc import Callable

    from compresslab.measure.artifact import Artifact
    from compresslab.measure.bench import BenchSettings
    from compresslab.measure.evaluate import Answers
    from compresslab.measure.measurement import IntegerOperators, Measurement
    from compresslab.store import Store
    from compresslab.tasks import Task
    from compresslab.tasks.towers_task import TowersTask

REPORTED = ("validation", "test")
_KIND = "measurement"
_CODE = ("compresslab.measure.measuring", "compresslab.measure.worker", "compresslab.export.operator_times")
_FILE = "measurement.json"


class Measurements:
    """Measures artifacts, or finds their measurements in the store.

    Args:
        store: Where they are kept.
        task: Whose validation and test splits, and whose benchmarks, quality is measured on.
        bench: How latency is measured.
        doubted: Whether a measurement of another run is not to be relied upon, as its machine was too loud; then it is
            made again. None relies on all.

    Raises:
        DataError: A split has no labels.
    """

    def __init__(
        self, store: Store, task: Task | TowersTask, bench: BenchSettings,
        doubted: Callable[[Artifact, Measurement], bool] | None = None,
    ) -> None:  # fmt: skip
        self._store = store
        self._doubted = doubted
        self._task = task
        self._bench = bench
        self._made: set[str] = set()
        self.machine = fingerprint()
        splits = [_labelled(task, name) for name in REPORTED]
        benchmarks = [EvalBenchmark(name, one.inputs, one.targets, one.metric) for name, one in task.benchmarks.items()]
        self._measurer = Measurer(splits, task.name, task.metric, bench, benchmarks, task.sample_sets)

    def obtain(
        self,
        artifact: Artifact,
        parent: Artifact | None,
        baseline: Artifact | None,
        teacher: Artifact | Answers | None,
        splits: tuple[str, ...] = REPORTED,
        control: Artifact | None = None,
    ) -> tuple[Measurement, bool]:
        """The measurement, and whether the store had it. The arguments are those of `Measurer.measure`."""
        return on_main(lambda: self._obtained(artifact, parent, baseline, teacher, splits, control))

    def _obtained(
        self,
        artifact: Artifact,
        parent: Artifact | None,
        baseline: Artifact | None,
        teacher: Artifact | Answers | None,
        splits: tuple[str, ...],
        control: Artifact | None,
    ) -> tuple[Measurement, bool]:
        key = self._key((artifact, parent, baseline, teacher, control), splits)
        found = self._store.find(_KIND, key)
        if found is not None:
            measurement = from_json(json.loads((found / _FILE).read_text(encoding="utf-8")))
            if key in self._made or self._doubted is None or not self._doubted(artifact, measurement):
                return measurement, key not in self._made
            self._store.discard(_KIND, key)
        measurement = self._measurer.measure(artifact, parent, baseline, teacher, splits, control)
        measurement = replace(measurement, integer_operators=self._timed(artifact, measurement.integer_operators))
        with self._store.writing(_KIND, key) as folder:
            (folder / _FILE).write_text(json.dumps(to_json(measurement)), encoding="utf-8")
        self._made.add(key)
        return measurement, False

    def _timed(self, artifact: Artifact, counted: IntegerOperators) -> IntegerOperators:
        """With what operators left in float take at the deployment point; some milliseconds, of an INT8 model only."""
        if counted.eligible == 0 or artifact.manifest.towers:  # of several graphs there is no one time to share
            return counted
        point = self._bench.points[0]
        info = artifact.manifest.graphs[point.graph]
        samples = self._task.splits["validation"].inputs
        assert not isinstance(samples, TowerSamples), "there is one graph"
        rows = np.arange(point.batch) % len(samples)
        feed = {info.inputs[0].name: artifact.manifest.preprocessing.graph_input(samples[rows])}
        return with_times(counted, artifact.graphs[point.graph], artifact.manifest.session, feed, point.threads)

    def _key(self, artifacts: tuple[Artifact | Answers | None, ...], splits: tuple[str, ...]) -> str:
        return digest_of(
            {
                "artifacts": [None if one is None else one.digest for one in artifacts],
                "bench": self._bench.model_dump(mode="json"),
                "splits": {name: self._task.splits[name].digest for name in splits},
                "metric": metric_digest(self._task.metric),
                "benchmarks": {name: [one.metric, one.digest] for name, one in self._task.benchmarks.items()},
                "machine": self.machine,
                "code": code_digest(*_CODE),
            }
        )


def _labelled(task: Task | TowersTask, name: str) -> EvalSplit:
    split = task.splits[name]
    if split.targets is None:
        raise DataError(f"the `{name}` split has no labels, so no quality can be measured on it")
    return EvalSplit(name, split.inputs, split.targets)
