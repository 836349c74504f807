"""Everything that is measured of an artifact, in one call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from compresslab.measure.bench import BenchSettings, interleaved, peak_rss_mb
from compresslab.measure.comparison import compare, reasons
from compresslab.measure.evaluate import Answers, EvalBenchmark, EvalSplit, predict
from compresslab.measure.groups import is_query
from compresslab.measure.index_effects import index_effects
from compresslab.measure.latency import summarise
from compresslab.measure.machine import fingerprint
from compresslab.measure.measurement import Estimate, IndexEffects, Measurement, Retained, TeacherIndex, Versus
from compresslab.measure.metric_names import CLASS_METRICS, RETRIEVAL_METRICS, label_of
from compresslab.measure.metrics import METRICS, Metric, Outputs, Targets, metric_of
from compresslab.measure.quality import quality, quality_delta, quality_ratio
from compresslab.measure.retention import retained
from compresslab.measure.subject import NO_SETS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from compresslab.measure.artifact import Artifact
    from compresslab.measure.preprocessing import Samples
    from compresslab.measure.subject import SampleSets

VALIDATION = "validation"
TEST = "test"


@dataclass(frozen=True)
class _Labelled:
    """A split or a benchmark: samples, targets, and how well they are answered.

    `name` is the split's, by which a teacher's given answers are found; a benchmark's has a space, as no split's has.
    """

    name: str
    key: str
    inputs: Samples
    targets: Targets
    metric: Metric

    @property
    def classes(self) -> bool:
        return self.key.rpartition("/")[2] in CLASS_METRICS

    @property
    def retrieval(self) -> bool:
        return self.key.rpartition("/")[2] in RETRIEVAL_METRICS


class Measurer:
    """Measures artifacts on the same splits and points; outputs and memory are computed once for each artifact.

    Args:
        splits: One is `validation`, which all that chooses reads; the reader's figures are on `test` where it is.
        benchmark: The benchmark's name; quality is reported as `benchmark/metric`.
        metric: As `metrics.metric_of` takes it.
        bench: What to measure, and for how long.
        benchmarks: Measured wherever `test` is, and nothing is chosen by them.
        sets: Samples beside the splits that points of the bench name.
    """

    def __init__(
        self,
        splits: Sequence[EvalSplit],
        benchmark: str,
        metric: str,
        bench: BenchSettings,
        benchmarks: Sequence[EvalBenchmark] = (),
        sets: SampleSets = NO_SETS,
    ) -> None:
        key = f"{benchmark}/{label_of(metric)}"
        self._splits = {
            split.name: _Labelled(split.name, key, split.inputs, split.targets, metric_of(metric)) for split in splits
        }
        if VALIDATION not in self._splits:
            raise ValueError(f"there must be a split `{VALIDATION}`, but got {', '.join(self._splits) or 'none'}")
        self._benchmarks = tuple(
            _Labelled(f"benchmark {one.name}", one.key, one.inputs, one.targets, METRICS[one.metric])
            for one in benchmarks
        )
        self._bench = bench
        self._sets = sets
        self._outputs: dict[tuple[str, str], Outputs] = {}
        self._peak_rss_mb: dict[str, float] = {}

    def measure(
        self,
        artifact: Artifact,
        parent: Artifact | None = None,
        baseline: Artifact | None = None,
        teacher: Artifact | Answers | None = None,
        splits: Sequence[str] | None = None,
        control: Artifact | None = None,
    ) -> Measurement:
        """Quality, latency, memory, and the comparisons, which are measured interleaved.

        Args:
            artifact: What to measure.
            parent: What it was made from; None where there is nothing before.
            baseline: What all are compared with; None for the baseline itself. May be the parent.
            teacher: What retention and agreement are of. Answers that do not cover a split give none on it.
            splits: Names of the splits to report quality on, default all; `validation` is always among them.
            control: The same network trained at the same cost without the teacher; only its quality is compared.

        Raises:
            ArtifactError: An artifact cannot be opened, or its outputs are not one row an example.
            BenchmarkFailed: A measuring process died, or outputs are not finite.
            DataError: The targets do not fit the outputs.
        """
        names = list(self._splits) if splits is None else list(dict.fromkeys([VALIDATION, *splits]))
        validation = self._splits[VALIDATION]
        reported = self._splits[TEST if TEST in names else VALIDATION]
        benchmarks = self._benchmarks if TEST in names else ()
        told = (reported, *benchmarks)
        others = {other.digest: other for other in (parent, baseline) if other is not None}
        samples = interleaved([artifact, *others.values()], validation.inputs, self._bench, self._sets)
        deployment = dict(zip(others, samples[0][1:], strict=True))

        def versus(other: Artifact) -> Versus:
            comparison = compare(samples[0][0], deployment[other.digest])
            return Versus(
                speedup=comparison.speedup,
                size_ratio=other.bytes / artifact.bytes,
                quality_delta=self._delta(artifact, other, reported),
                verdict=comparison.verdict,
                why=reasons(comparison, artifact.manifest, other.manifest),
                benchmark_deltas={one.key: self._delta(artifact, other, one) for one in benchmarks},
            )

        qualities = {name: {validation.key: self._quality(artifact, self._splits[name])} for name in names}
        qualities[reported.name] |= {one.key: self._quality(artifact, one) for one in benchmarks}
        return Measurement(
            quality=qualities,
            latency=tuple(
                summarise(models[0], point, artifact.manifest.session)
                for point, models in zip(self._bench.points, samples, strict=True)
            ),
            peak_rss_mb=self._memory(artifact),
            machine=fingerprint(),
            retention=self._retention(artifact, teacher, told),
            agreement_with_teacher=self._agreement(artifact, teacher),
            agreement_with_parent=self._agreement(artifact, parent),
            integer_operators=artifact.manifest.integer_operators,
            versus_parent=versus(parent) if parent is not None else None,
            versus_baseline=versus(baseline) if baseline is not None else None,
            validation_delta=self._delta(artifact, baseline, validation) if baseline is not None else None,
            validation_retention=self._retention(artifact, teacher, (validation,)),
            retention_by_class=self._retention_by_class(artifact, teacher, reported),
            versus_control=self._delta(artifact, control, reported) if control is not None else None,
            against_teacher_index=self._against_teacher_index(artifact, teacher, told),
            index={one.key: self._index(artifact, one) for one in told if one.retrieval},
        )

    def _predicted(self, artifact: Artifact, examples: _Labelled) -> Outputs:
        key = (artifact.digest, examples.name)
        if key not in self._outputs:
            self._outputs[key] = predict(artifact, examples.inputs)
        return self._outputs[key]

    def _answered(self, teacher: Artifact | Answers, examples: _Labelled) -> Outputs | None:
        if isinstance(teacher, Answers):
            return teacher.on(examples.name, len(examples.inputs))
        return self._predicted(teacher, examples)

    def _quality(self, artifact: Artifact, examples: _Labelled) -> Estimate:
        return quality(examples.metric, self._predicted(artifact, examples), examples.targets)

    def _delta(self, artifact: Artifact, other: Artifact, examples: _Labelled) -> Estimate:
        if artifact.digest == other.digest:
            return Estimate(0.0, 0.0, 0.0, self._quality(artifact, examples).n)
        this, theirs = self._predicted(artifact, examples), self._predicted(other, examples)
        return quality_delta(examples.metric, this, theirs, examples.targets)

    def _retention(
        self, artifact: Artifact, teacher: Artifact | Answers | None, told: Sequence[_Labelled]
    ) -> dict[str, Estimate]:
        """By `benchmark/metric`; without those that the teacher has no answers for, or none that are any good."""
        if teacher is None:
            return {}
        if artifact.digest == teacher.digest:
            return {one.key: Estimate(1.0, 1.0, 1.0, self._quality(artifact, one).n) for one in told}
        found = {}
        for one in told:
            reference = self._answered(teacher, one)
            if reference is None:
                continue
            ratio = quality_ratio(one.metric, self._predicted(artifact, one), reference, one.targets)
            if ratio is not None:
                found[one.key] = ratio
        return found

    def _retention_by_class(
        self, artifact: Artifact, teacher: Artifact | Answers | None, examples: _Labelled
    ) -> dict[str, Retained]:
        """Empty for the teacher itself, which keeps all by definition, and for targets that are no classes."""
        if teacher is None or artifact.digest == teacher.digest or not examples.classes:
            return {}
        reference = self._answered(teacher, examples)
        if reference is None:
            return {}
        outputs, classes = self._predicted(artifact, examples), np.asarray(examples.targets, np.int64)
        kept = retained(examples.name, outputs, reference, classes, artifact.manifest.labels)
        return {examples.key.rpartition("/")[0]: kept}

    def _against_teacher_index(
        self, artifact: Artifact, teacher: Artifact | Answers | None, told: Sequence[_Labelled]
    ) -> dict[str, TeacherIndex]:
        """This model's queries among the teacher's documents, where both are of one width."""
        found = {}
        for one in told if teacher is not None and artifact.digest != teacher.digest else ():
            assert teacher is not None, "there is one"
            reference = self._answered(teacher, one) if one.retrieval else None
            ours = self._predicted(artifact, one)
            if reference is None or reference.shape != ours.shape:
                continue
            mixed = np.where(is_query(one.targets)[:, np.newaxis], ours, reference)
            found[one.key] = TeacherIndex(
                quality(one.metric, mixed, one.targets), quality_ratio(one.metric, mixed, reference, one.targets)
            )
        return found

    def _index(self, artifact: Artifact, examples: _Labelled) -> IndexEffects:
        return index_effects(examples.metric, self._predicted(artifact, examples), examples.targets)

    def _agreement(self, artifact: Artifact, other: Artifact | Answers | None) -> float | None:
        validation = self._splits[VALIDATION]
        reference = None if other is None else self._answered(other, validation)
        if reference is None:
            return None
        return validation.metric.agreement(self._predicted(artifact, validation), reference)

    def _memory(self, artifact: Artifact) -> float:
        if artifact.digest not in self._peak_rss_mb:
            examples = self._splits[VALIDATION].inputs
            self._peak_rss_mb[artifact.digest] = peak_rss_mb(artifact, examples, self._bench, self._sets)
        return self._peak_rss_mb[artifact.digest]


def measure(
    artifact: Artifact,
    *,
    splits: Sequence[EvalSplit],
    benchmark: str,
    metric: str,
    bench: BenchSettings,
    parent: Artifact | None = None,
    baseline: Artifact | None = None,
    teacher: Artifact | Answers | None = None,
    control: Artifact | None = None,
    benchmarks: Sequence[EvalBenchmark] = (),
) -> Measurement:
    """`Measurer(...).measure(...)` for one artifact."""
    measurer = Measurer(splits, benchmark, metric, bench, benchmarks)
    return measurer.measure(artifact, parent, baseline, teacher, control=control)
