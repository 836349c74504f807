"""What was measured, as plain frozen data. The names are those of results.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Verdict = Literal["faster", "slower", "no_difference", "inconclusive"]
Change = Literal["lost", "gained", "unclear"]


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval; `n` is the number of examples behind it, where there is one."""

    value: float
    low: float
    high: float
    n: int | None = None


@dataclass(frozen=True)
class Latency:
    """Latency of one graph at one point, in milliseconds. A percentile without ten samples beyond it is None.

    `_low` and `_high` are the percentile's 95 % interval.
    """

    graph: str
    batch: int
    threads: int
    inputs: str
    session: str
    provider: str
    p50: float
    p90: float | None
    p99: float | None
    p50_low: float
    p50_high: float
    samples: int
    p90_low: float | None = None
    p90_high: float | None = None
    p99_low: float | None = None
    p99_high: float | None = None


@dataclass(frozen=True)
class Parity:
    """Largest absolute difference between ONNX Runtime's outputs and torch's over `n` real inputs."""

    max_abs_diff: float
    n: int


@dataclass(frozen=True)
class Fidelity:
    """A fake-quantized network in torch against its ONNX file on the same `n` labelled inputs, by the task's metric.

    `agreement` is of classes the share of equal answers, of scores their correlation, of embeddings that of the cosines
    between samples. `allowed` is by how much the two values of the metric may differ.
    """

    metric: str
    torch: float
    onnx: float
    agreement: float
    allowed: float
    n: int


@dataclass(frozen=True)
class InFloat:
    """An operator of a quantized graph that has an integer kernel and runs in float all the same.

    Or an activation between integers that has none.

    `share` is its part of the time that ONNX Runtime's profile counts, from 0 to 1.
    """

    name: str
    kind: str
    reason: str
    share: float


@dataclass(frozen=True)
class IntegerOperators:
    """Of the operators that have an integer kernel, how many run as one in the optimised graph, and why not the rest.

    `floating` has one line an operator left in float: its name, its type and the reason. `in_float` has them with
    their shares of the time, where that was measured; `time` is then what integer kernels take of it, what
    `conversions` between integers and floats, and what is left in `float`, each from 0 to 1.
    """

    eligible: int
    integer: int
    floating: tuple[str, ...] = ()
    in_float: tuple[InFloat, ...] = ()
    time: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Versus:
    """One artifact against another, measured interleaved in one session; ratios are other / this, so > 1 is better.

    `benchmark_deltas` is this - other, paired, by `benchmark/metric` of each of the task's benchmarks.
    """

    speedup: Estimate
    size_ratio: float
    quality_delta: Estimate
    verdict: Verdict
    why: tuple[str, ...] = ()
    benchmark_deltas: Mapping[str, Estimate] = field(default_factory=dict)


@dataclass(frozen=True)
class TeacherIndex:
    """What a model's queries find among its teacher's documents: whether an index may stay as it is.

    `retention` is that over what the teacher's own queries find; None where they find nothing.
    """

    quality: Estimate
    retention: Estimate | None


@dataclass(frozen=True)
class IndexEffects:
    """What a model means for an index of its embeddings.

    Bytes are those of a vector; int8 takes 4 bytes a dimension more for the whole index. `int8` is the quality with the
    documents' vectors so rounded, and `int8_delta` that less the quality in float32, paired.
    """

    width: int
    bytes_float32: int
    bytes_int8: int
    int8: Estimate
    int8_delta: Estimate


@dataclass(frozen=True)
class ClassRetention:
    """A student against its teacher on the `n` examples of one class.

    `teacher` and `student` are recalls; `delta` is student - teacher, paired, with an interval of this class alone.
    `p_value` and `change` are corrected over all classes of the split (`measure.retention` says how). The rest counts
    examples by what the teacher's answer was and what the student made of it.
    """

    label: str
    n: int
    teacher: float
    student: float
    delta: Estimate
    p_value: float
    change: Change
    right_to_wrong: int
    wrong_to_right: int
    wrong_to_other_wrong: int


@dataclass(frozen=True)
class Flip:
    """`count` examples that the teacher calls `teacher` and the student `student`, and for how many that decided."""

    teacher: str
    student: str
    count: int
    right_to_wrong: int
    wrong_to_right: int


@dataclass(frozen=True)
class Flips:
    """How many of the examples the student answers otherwise than the teacher; `frequent` are the ten commonest."""

    right_to_wrong: int
    wrong_to_right: int
    wrong_to_other_wrong: int
    frequent: tuple[Flip, ...]


@dataclass(frozen=True)
class Retained:
    """What a student kept of its teacher on the `n` examples of a split.

    `measured` classes have examples; `lost` and `gained` of them changed for certain. `classes` are all of them, or, of
    more than a hundred, the twenty worst.
    """

    split: str
    n: int
    measured: int
    lost: int
    gained: int
    classes: tuple[ClassRetention, ...]
    flips: Flips


@dataclass(frozen=True)
class Measurement:
    """Everything measured of one artifact. `quality` is split -> `benchmark/metric` -> estimate.

    `retention`, `retention_by_class` (benchmark -> classes; empty where there are none), `versus_control` (quality of
    this - that of its control, paired) and the `quality_delta` of `versus_*` are for the reader: on test where it was
    measured. What chooses reads validation: `validation_retention` (of the teacher) and `validation_delta` (this -
    baseline, paired).
    `agreement_with_...` is on validation: of classes the share of equal answers, of scores their correlation, of
    embeddings that of the cosines between samples.

    A task's benchmarks are measured where test is, and nothing is chosen by them: their figures are in `quality` and
    `retention` beside those of test. `against_teacher_index` and `index` are of retrieval, by `benchmark/metric`.
    """

    quality: Mapping[str, Mapping[str, Estimate]]
    latency: tuple[Latency, ...]
    peak_rss_mb: float
    machine: Mapping[str, object]
    retention: Mapping[str, Estimate] = field(default_factory=dict)
    agreement_with_teacher: float | None = None
    agreement_with_parent: float | None = None
    integer_operators: IntegerOperators = IntegerOperators(0, 0)
    versus_parent: Versus | None = None
    versus_baseline: Versus | None = None
    validation_delta: Estimate | None = None
    validation_retention: Mapping[str, Estimate] = field(default_factory=dict)
    retention_by_class: Mapping[str, Retained] = field(default_factory=dict)
    versus_control: Estimate | None = None
    against_teacher_index: Mapping[str, TeacherIndex] = field(default_factory=dict)
    index: Mapping[str, IndexEffects] = field(default_factory=dict)
