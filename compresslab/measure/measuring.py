"""Everything that is measured of an artifact, in one call."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from compresslab.measure.bench import BenchSettings, interleaved, peak_rss_mb
from compresslab.measure.comparison import compare, reasons
from compresslab.measure.evaluate import Answers, EvalSplit, predict
from compresslab.measure.latency import summarise
from compresslab.measure.machine import fingerprint
from compresslab.measure.measurement import Estimate, Measurement, Retained, Versus
from compresslab.measure.metric_names import label_of
from compresslab.measure.metrics import Outputs, metric_of
from compresslab.measure.quality import quality, quality_delta, quality_ratio
from compresslab.measure.retention import retained

if TYPE_CHECKING:
    from collections.abc import Sequence

    from compresslab.measure.artifact import Artifact

VALIDATION = "validation"
TEST = "test"


class Measurer:
    """Measures artifacts on the same splits and points; outputs and memory are computed once for each artifact.

    Args:
        splits: One is `validation`, which all that chooses reads; the reader's figures are on `test` where it is.
        benchmark: The benchmark's name; quality is reported as `benchmark/metric`.
        metric: As `metrics.metric_of` takes it.
        bench: What to measure, and for how long.
    """

    def __init__(self, splits: Sequence[EvalSplit], benchmark: str, metric: str, bench: BenchSettings) -> None:
        self._splits = {split.name: split for split in splits}
        if VALIDATION not in self._splits:
            raise ValueError(f"there must be a split `{VALIDATION}`, but got {', '.join(self._splits) or 'none'}")
        self._metric = metric_of(metric)
        self._key = f"{benchmark}/{label_of(metric)}"
        self._bench = bench
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
        reported = TEST if TEST in names else VALIDATION
        others = {other.digest: other for other in (parent, baseline) if other is not None}
        examples = self._splits[VALIDATION].inputs
        samples = interleaved([artifact, *others.values()], examples, self._bench)
        deployment = dict(zip(others, samples[0][1:], strict=True))

        def versus(other: Artifact) -> Versus:
            comparison = compare(samples[0][0], deployment[other.digest])
            return Versus(
                speedup=comparison.speedup,
                size_ratio=other.bytes / artifact.bytes,
                quality_delta=self._delta(artifact, other, reported),
                verdict=comparison.verdict,
                why=reasons(comparison, artifact.manifest, other.manifest),
            )

        return Measurement(
            quality={name: {self._key: self._quality(artifact, name)} for name in names},
            latency=tuple(
                summarise(models[0], point, artifact.manifest.session)
                for point, models in zip(self._bench.points, samples, strict=True)
            ),
            peak_rss_mb=self._memory(artifact),
            machine=fingerprint(),
            retention=self._retention(artifact, teacher, reported),
            agreement_with_teacher=self._agreement(artifact, teacher),
            agreement_with_parent=self._agreement(artifact, parent),
            integer_operators=artifact.manifest.integer_operators,
            versus_parent=versus(parent) if parent is not None else None,
            versus_baseline=versus(baseline) if baseline is not None else None,
            validation_delta=self._delta(artifact, baseline, VALIDATION) if baseline is not None else None,
            validation_retention=self._retention(artifact, teacher, VALIDATION),
            retention_by_class=self._retention_by_class(artifact, teacher, reported),
            versus_control=self._delta(artifact, control, reported) if control is not None else None,
        )

    def _predicted(self, artifact: Artifact, split: str) -> Outputs:
        key = (artifact.digest, split)
        if key not in self._outputs:
            self._outputs[key] = predict(artifact, self._splits[split].inputs)
        return self._outputs[key]

    def _answered(self, teacher: Artifact | Answers, split: str) -> Outputs | None:
        if isinstance(teacher, Answers):
            return teacher.on(split, len(self._splits[split].inputs))
        return self._predicted(teacher, split)

    def _quality(self, artifact: Artifact, split: str) -> Estimate:
        return quality(self._metric, self._predicted(artifact, split), self._splits[split].targets)

    def _delta(self, artifact: Artifact, other: Artifact, split: str) -> Estimate:
        targets = self._splits[split].targets
        if artifact.digest == other.digest:
            return Estimate(0.0, 0.0, 0.0, len(targets))
        return quality_delta(self._metric, self._predicted(artifact, split), self._predicted(other, split), targets)

    def _retention(self, artifact: Artifact, teacher: Artifact | Answers | None, split: str) -> dict[str, Estimate]:
        if teacher is None:
            return {}
        targets = self._splits[split].targets
        if artifact.digest == teacher.digest:
            return {self._key: Estimate(1.0, 1.0, 1.0, len(targets))}
        reference = self._answered(teacher, split)
        if reference is None:
            return {}
        ratio = quality_ratio(self._metric, self._predicted(artifact, split), reference, targets)
        return {} if ratio is None else {self._key: ratio}

    def _retention_by_class(
        self, artifact: Artifact, teacher: Artifact | Answers | None, split: str
    ) -> dict[str, Retained]:
        """Empty for the teacher itself, which keeps all by definition, and for targets that are no classes."""
        targets = self._splits[split].targets
        if teacher is None or artifact.digest == teacher.digest or targets.dtype.kind != "i":
            return {}
        reference = self._answered(teacher, split)
        if reference is None:
            return {}
        outputs, classes = self._predicted(artifact, split), np.asarray(targets, np.int64)
        kept = retained(split, outputs, reference, classes, artifact.manifest.labels)
        return {self._key.rpartition("/")[0]: kept}

    def _agreement(self, artifact: Artifact, other: Artifact | Answers | None) -> float | None:
        reference = None if other is None else self._answered(other, VALIDATION)
        if reference is None:
            return None
        return self._metric.agreement(self._predicted(artifact, VALIDATION), reference)

    def _memory(self, artifact: Artifact) -> float:
        if artifact.digest not in self._peak_rss_mb:
            examples = self._splits[VALIDATION].inputs
            self._peak_rss_mb[artifact.digest] = peak_rss_mb(artifact, examples, self._bench)
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
) -> Measurement:
    """`Measurer(...).measure(...)` for one artifact."""
    return Measurer(splits, benchmark, metric, bench).measure(artifact, parent, baseline, teacher, control=control)
