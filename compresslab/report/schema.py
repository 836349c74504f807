"""The shape of results.json: a contract that CI jobs read.

Keys may be added; a key that goes or changes its meaning needs another `SCHEMA_VERSION`.
"""

from __future__ import annotations

from typing import (
    Any,
    NotRequired,  # pydantic needs this one below Python 3.12
)

from typing_extensions import TypedDict

from compresslab.measure.budget import Status
from compresslab.measure.measurement import Change, Verdict

SCHEMA_VERSION = 1


class Interval(TypedDict):
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float


class Quality(Interval):
    """An interval, and the number of examples behind it."""

    n: int | None


class ArtifactResult(TypedDict):
    """The exported files. `graphs` are paths relative to the run directory; `bytes` is their sum."""

    graphs: dict[str, str]
    sha256: dict[str, str]
    bytes: int


class QualityResult(TypedDict):
    """`benchmark/metric` -> quality, a split; empty where it was not measured. `test` has the benchmarks' too."""

    validation: dict[str, Quality]
    test: dict[str, Quality]


class LatencyResult(TypedDict):
    """Milliseconds of one graph at one point; a percentile without ten samples beyond it is null."""

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


class ParityResult(TypedDict):
    """ONNX Runtime against torch: the largest absolute difference over `n` real inputs."""

    max_abs_diff: float
    n: int


class FloatOperator(TypedDict):
    """An operator that has an integer kernel and runs in float, why, and its share of the time (0 to 1).

    Or an activation between integers that has none.
    """

    name: str
    kind: str
    reason: str
    share: float


class IntegerResult(TypedDict):
    """Operators that have an integer kernel, and how many of them run as one.

    `in_float` are the others, and `time` what integer kernels, conversions and the rest take; both empty where no time
    was measured.
    """

    eligible: int
    integer: int
    in_float: NotRequired[list[FloatOperator]]
    time: NotRequired[dict[str, float]]


class FidelityResult(TypedDict):
    """The fake-quantized network in torch against its ONNX file, by the task's metric on `n` inputs."""

    metric: str
    torch: float
    onnx: float
    agreement: float
    allowed: float
    n: int


class VersusBaseline(TypedDict):
    """This model against the baseline, interleaved; ratios above 1 are better. `quality_delta` is paired, on test.

    `benchmark_deltas` are the same for each of the task's benchmarks, by `benchmark/metric`.
    """

    speedup: Interval
    size_ratio: float
    quality_delta: Interval
    benchmark_deltas: NotRequired[dict[str, Interval]]


class TeacherIndexResult(TypedDict):
    """What a model's queries find among its teacher's documents, and that over what the teacher's own find."""

    quality: Quality
    retention: Interval | None


class IndexResult(TypedDict):
    """What an index of the embeddings takes a vector, and what is found in it as int8, and less than in float32."""

    width: int
    bytes_float32: int
    bytes_int8: int
    int8: Quality
    int8_delta: Interval


class VersusParent(VersusBaseline):
    """This model against the one its stage started from, and what that amounts to."""

    verdict: Verdict
    why: list[str]


class ClassResult(TypedDict):
    """A model against its teacher on one class; `delta` (model - teacher) is paired, `p_value` is for all classes."""

    label: str
    n: int
    teacher: float
    student: float
    delta: Interval
    p_value: float
    change: Change
    right_to_wrong: int
    wrong_to_right: int
    wrong_to_other_wrong: int


class FlipResult(TypedDict):
    """Examples that the teacher calls one thing and the model another."""

    teacher: str
    student: str
    count: int
    right_to_wrong: int
    wrong_to_right: int


class FlipsResult(TypedDict):
    """Examples that the model answers otherwise than the teacher; `frequent` are the ten commonest."""

    right_to_wrong: int
    wrong_to_right: int
    wrong_to_other_wrong: int
    frequent: list[FlipResult]


class ByClassResult(TypedDict):
    """A model against its teacher on a split of `n` examples; of more than a hundred classes the twenty worst."""

    split: str
    n: int
    measured: int
    lost: int
    gained: int
    classes: list[ClassResult]
    flips: FlipsResult


class BudgetReport(TypedDict):
    """Whether limits are kept, and each one that is not."""

    status: Status
    violations: list[str]


class PointResult(TypedDict):
    """One model of the run. Keys that may be missing came later within the version: an older run is read as well."""

    id: str
    stage: str
    lineage: list[str]
    cached: bool
    seconds: float
    artifact: ArtifactResult
    params: int
    macs: int
    quality: QualityResult
    retention: dict[str, Interval]
    agreement_with_teacher: float | None
    latency_ms: list[LatencyResult]
    peak_rss_mb: float
    parity: ParityResult | None
    agreement_with_parent: float | None
    integer_operators: IntegerResult
    versus_parent: VersusParent | None
    versus_baseline: VersusBaseline | None
    settings: dict[str, Any]
    decisions: dict[str, Any]
    reference: bool
    budget: Status
    versus_control: NotRequired[Interval | None]
    fidelity: NotRequired[FidelityResult | None]
    retention_by_class: NotRequired[dict[str, ByClassResult]]
    against_teacher_index: NotRequired[dict[str, TeacherIndexResult]]
    index: NotRequired[dict[str, IndexResult]]


class Results(TypedDict):
    """The whole file."""

    schema_version: int
    pipeline: str
    points: list[PointResult]
    frontier: list[str]
    selected: str | None
    select: str
    budget: BudgetReport
    machine: dict[str, Any]
    notes: list[str]
