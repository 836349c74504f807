"""Limits on a model, each compared with an interval: pass, fail, or not enough evidence to say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from compresslab.errors import ConfigError, Problem, did_you_mean
from compresslab.measure.measurement import Estimate, Latency, Measurement
from compresslab.measure.metric_names import CLASS_METRICS, EMBEDDING_METRICS, METRIC_NAMES, SCORE_METRICS
from compresslab.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

Status = Literal["pass", "fail", "inconclusive"]

_Positive = Annotated[float, Field(gt=0.0)]
_Share = Annotated[float, Field(ge=0.0, le=1.0)]
_Correlation = Annotated[float, Field(ge=-1.0, le=1.0)]
_Drop = Annotated[float, Field(ge=-1.0, le=1.0)]

# Of a timing, either way: what is wider than this says that the machine was loud, not that the model is at its limit.
_LOUD = 0.1
_VALIDATION = "validation"
_NO_TEACHER = "the teacher has no answers there, or none that are right"
_PERCENTILES = ("p50", "p90", "p99")
_COSTS = (*(f"{name}_ms" for name in _PERCENTILES), "bytes", "size_ratio", "speedup", "peak_rss_mb")


class Limits(Settings):
    """What can be limited, of a pipeline's models and by the gate alike; None is no limit."""

    p50_ms: _Positive | None = None
    """Median latency at `point`, at most, in milliseconds."""
    p90_ms: _Positive | None = None
    """90th percentile of latency at `point`, at most, in milliseconds."""
    p99_ms: _Positive | None = None
    """99th percentile of latency at `point`, at most, in milliseconds."""
    bytes: Annotated[int, Field(ge=1)] | None = None
    """Size of the ONNX files, at most."""
    size_ratio: _Positive | None = None
    """Times smaller than the baseline, at least."""
    speedup: _Positive | None = None
    """Times faster than the baseline at the deployment point, `bench.points[0]`, at least."""
    accuracy: _Share | None = None
    """At least."""
    accuracy_drop: _Drop | None = None
    """Below the baseline's accuracy, at most: 0.01 is one point."""
    f1_macro: _Share | None = None
    """At least."""
    f1_macro_drop: _Drop | None = None
    """Below the baseline's macro F1, at most."""
    spearman: _Correlation | None = None
    """At least."""
    spearman_drop: _Drop | None = None
    """Below the baseline's rank correlation with the targets, at most."""
    pearson: _Correlation | None = None
    """At least."""
    pearson_drop: _Drop | None = None
    """Below the baseline's correlation with the targets, at most."""
    r2: Annotated[float, Field(le=1.0)] | None = None
    """At least."""
    r2_drop: _Drop | None = None
    """Below the share of the targets' variance that the baseline explains, at most."""
    retention: Annotated[dict[str, _Positive], Field(default_factory=dict)]
    """Of the teacher's quality, at least, by `benchmark/metric`: 0.99 is one per cent lost. The loss is below that for
    sure: the whole interval must be above. That on one of the task's benchmarks judges the model that was chosen, and
    takes no part in choosing it."""
    at_least: Annotated[dict[str, float], Field(default_factory=dict)]
    """Of metrics of your own, at least, by the function's name: `{utility: 0.8}`."""
    drop: Annotated[dict[str, float], Field(default_factory=dict)]
    """Of metrics of your own, below the baseline's, at most, by the function's name: `{utility: 0.02}`."""
    peak_rss_mb: _Positive | None = None
    """Peak memory of a process that serves the model, at most, in millions of bytes."""


class GraphLimits(Settings):
    """Limits on one of several graphs, at its first point of the bench."""

    p50_ms: _Positive | None = None
    """Median latency, at most, in milliseconds."""
    p90_ms: _Positive | None = None
    """90th percentile of latency, at most, in milliseconds."""
    p99_ms: _Positive | None = None
    """99th percentile of latency, at most, in milliseconds."""


class Budget(Limits):
    """Limits; None is no limit. Quality is read on validation, latency at one of the bench's points.

    Of the task's benchmarks retention may be limited as well.
    """

    point: Annotated[int, Field(ge=0)] = 0
    """Which of `bench.points` the latency limits are for. Of a model of two towers 0 is one call of each, and
    its points count from 1."""
    image: GraphLimits | None = None
    """Limits on the image tower alone."""
    text: GraphLimits | None = None
    """Limits on the text tower alone."""

    @property
    def graphs(self) -> dict[str, GraphLimits]:
        """The limits on single graphs, by their names."""
        return {name: limits for name in ("image", "text") if (limits := getattr(self, name)) is not None}

    def choosing(self, benchmarks: Collection[str]) -> Budget:
        """What of it may have a say in what is chosen: all but the limits on these, by `benchmark/metric`."""
        kept = {name: limit for name, limit in self.retention.items() if name not in benchmarks}
        return self.model_copy(update={"retention": kept})


@dataclass(frozen=True)
class BudgetResult:
    """The verdict, and one line for each limit that is not met for certain; it begins with the limit's key."""

    status: Status
    violations: tuple[str, ...] = ()

    @property
    def misses_quality(self) -> bool:
        """Whether a limit on quality is among them."""
        return any(_key(line) not in _COSTS for line in self.violations)

    @property
    def misses_cost(self) -> bool:
        """Whether a limit on latency, size or memory is among them."""
        return any(_key(line) in _COSTS for line in self.violations)


def _key(violation: str) -> str:
    """What a violation is of; that of one graph is of the same kind as that of all."""
    key = violation.partition(":")[0]
    return key.removeprefix("image.").removeprefix("text.")


@dataclass(frozen=True)
class _Limit:
    """One limit beside what was measured; `measured` is None where too few calls were made to know."""

    key: str
    sense: Literal["at most", "at least"]
    limit: float
    measured: Estimate | None
    where: str = ""
    unknown: str = "too few calls were made to know; raise bench.min_count"

    @property
    def status(self) -> Status:
        if self.measured is None:
            return "inconclusive"
        low, high = self.measured.low, self.measured.high
        if self.sense == "at least":
            low, high = -high, -low
        limit = self.limit if self.sense == "at most" else -self.limit
        if high <= limit:
            return "pass"
        return "fail" if low > limit else "inconclusive"

    def __str__(self) -> str:
        asked = f"{self.key}: {self.sense} {_figure(self.limit)}{self.where}, "
        if self.measured is None:
            return f"{asked}but {self.unknown}: inconclusive"
        value, low, high = self.measured.value, self.measured.low, self.measured.high
        interval = "" if low == high else f" [{_figure(low)}, {_figure(high)}]"
        return f"{asked}but measured {_figure(value)}{interval}: {self.status}"


def check(budget: Budget | None, measurement: Measurement, artifact_bytes: int) -> BudgetResult:
    """Whether a measured model is within its budget.

    A limit passes when the whole 95 % interval is inside, fails when it is wholly outside, and is inconclusive when it
    straddles the limit. The budget fails with any limit, and passes with all. No budget is always passed. Compared with
    itself (a measurement without a baseline) a model is 1x smaller and faster and loses nothing.

    Raises:
        ConfigError: The budget limits something that was not measured.
    """
    if budget is None:
        return BudgetResult("pass")
    validation = tuple(measurement.quality[_VALIDATION])
    broken = unmeasured(budget, validation, len(measurement.latency), benchmark_keys(measurement))
    if broken:
        raise ConfigError([Problem("budget", None, key, message) for key, message in broken])
    limits = [*_cost_limits(budget, measurement, artifact_bytes), *_quality_limits(budget, measurement)]
    missed = [limit for limit in limits if limit.status != "pass"]
    status: Status = "pass"
    if missed:
        status = "fail" if any(limit.status == "fail" for limit in missed) else "inconclusive"
    return BudgetResult(status, tuple(str(limit) for limit in missed))


def too_loud(budget: Budget | None, measurement: Measurement, artifact_bytes: int) -> bool:
    """Whether a limit on time is left open by an interval that reaches more than a tenth beyond what was measured.

    On a quieter machine the same model may well pass or fail for certain. One that is at its limit in a narrow interval
    is not asked again: whoever measures until it passes has measured luck.
    """
    timed = {"speedup", *(f"{name}_ms" for name in _PERCENTILES)}
    return budget is not None and any(
        limit.status == "inconclusive" and _key(limit.key) in timed and limit.measured is not None
        and max(limit.measured.high / limit.measured.value - 1, 1 - limit.measured.low / limit.measured.value) > _LOUD
        for limit in _cost_limits(budget, measurement, artifact_bytes)
    )  # fmt: skip


def benchmark_keys(measurement: Measurement) -> tuple[str, ...]:
    """The figures, `benchmark/metric`, that were measured beside test and that nothing is chosen by."""
    validation = measurement.quality.get(_VALIDATION, {})
    return tuple(name for values in measurement.quality.values() for name in values if name not in validation)


def unmeasured(
    budget: Budget, chosen_by: Sequence[str], points: int, beside: Sequence[str] = ()
) -> list[tuple[str, str]]:
    """What the budget limits and nobody measures, as (key, message): known before anything runs.

    Args:
        budget: The budget.
        chosen_by: The names, `benchmark/metric`, that quality is measured under on validation.
        points: How many points the bench has.
        beside: Those of the task's benchmarks, of which retention may be limited too.
    """
    benchmarks = (*chosen_by, *beside)
    measured = {name.rpartition("/")[2] for name in chosen_by}
    problems = [
        (key, f"`{metric}` is not measured, but {_list(sorted(measured))}; {_metric_remedy(metric, measured)}")
        for metric in METRIC_NAMES
        for key in (metric, f"{metric}_drop")
        if getattr(budget, key) is not None and metric not in measured
    ]
    problems += [
        (f"retention.{name}", f"is not measured, but {_list(benchmarks)}{did_you_mean(name, benchmarks)}")
        for name in budget.retention
        if name not in benchmarks
    ]
    names = sorted(measured)
    problems += [
        (f"{place}.{name}", f"`{name}` is not measured, but {_list(names)}{did_you_mean(name, names)}")
        for place in ("at_least", "drop")
        for name in getattr(budget, place)
        if name not in measured
    ]
    if budget.point >= points:
        problems.append(
            ("point", f"`point < {points}` must hold, as bench has {points} points, but got {budget.point}")
        )
    return problems


def _metric_remedy(metric: str, measured: set[str]) -> str:
    if measured and measured <= set(EMBEDDING_METRICS):
        return "the task's answers are embeddings: limit `retention`"
    kind = next(kind for kind in (CLASS_METRICS, SCORE_METRICS) if metric in kind)
    if measured and measured.isdisjoint(kind):
        other = CLASS_METRICS if kind is SCORE_METRICS else SCORE_METRICS
        return f"the task's answers are of another kind: limit one of {_list(other)}"
    return f"set the task's `metric` to `{metric}`"


def _cost_limits(budget: Budget, measurement: Measurement, artifact_bytes: int) -> list[_Limit]:
    latency, baseline = measurement.latency[budget.point], measurement.versus_baseline
    where = f" (batch {latency.batch}, {latency.threads} thread{'s' if latency.threads > 1 else ''})"
    size_ratio, speedup = (baseline.size_ratio, baseline.speedup) if baseline else (1.0, _exact(1.0))
    limits = []
    for name in _PERCENTILES:
        limit = getattr(budget, f"{name}_ms")
        if limit is not None:
            limits.append(_Limit(f"{name}_ms", "at most", limit, _percentile(latency, name), where))
    for graph, its in budget.graphs.items():
        found = next((one for one in measurement.latency if one.graph == graph), None)
        if found is not None:
            here = f" (batch {found.batch}, {found.threads} thread{'s' if found.threads > 1 else ''})"
            limits += [
                _Limit(f"{graph}.{name}_ms", "at most", limit, _percentile(found, name), here)
                for name in _PERCENTILES
                if (limit := getattr(its, f"{name}_ms")) is not None
            ]
    if budget.bytes is not None:
        limits.append(_Limit("bytes", "at most", budget.bytes, _exact(artifact_bytes)))
    if budget.size_ratio is not None:
        limits.append(_Limit("size_ratio", "at least", budget.size_ratio, _exact(size_ratio)))
    if budget.speedup is not None:
        deployment = measurement.latency[0]
        where = f" (batch {deployment.batch}, {deployment.threads} thread{'s' if deployment.threads > 1 else ''})"
        limits.append(_Limit("speedup", "at least", budget.speedup, speedup, where))
    if budget.peak_rss_mb is not None:
        limits.append(_Limit("peak_rss_mb", "at most", budget.peak_rss_mb, _exact(measurement.peak_rss_mb)))
    return limits


def _quality_limits(budget: Budget, measurement: Measurement) -> list[_Limit]:
    qualities = {name.rpartition("/")[2]: value for name, value in measurement.quality[_VALIDATION].items()}
    delta = measurement.validation_delta or _exact(0.0)
    drop = Estimate(-delta.value, -delta.high, -delta.low, delta.n)
    limits = []
    for metric in METRIC_NAMES:
        at_least, at_most = getattr(budget, metric), getattr(budget, f"{metric}_drop")
        if at_least is not None:
            limits.append(_Limit(metric, "at least", at_least, qualities[metric]))
        if at_most is not None:
            limits.append(_Limit(f"{metric}_drop", "at most", at_most, drop))
    kept = retentions(measurement)
    limits += [
        _Limit(f"at_least.{name}", "at least", limit, qualities[name]) for name, limit in budget.at_least.items()
    ]
    limits += [_Limit(f"drop.{name}", "at most", limit, drop) for name, limit in budget.drop.items()]
    limits += [
        _Limit(f"retention.{name}", "at least", limit, kept.get(name), unknown=_NO_TEACHER)
        for name, limit in budget.retention.items()
    ]
    return limits


def retentions(measurement: Measurement) -> dict[str, Estimate]:
    """What limits on retention read: of the task's own metric on validation, and on its benchmarks."""
    beside = {
        name: measurement.retention[name] for name in benchmark_keys(measurement) if name in measurement.retention
    }
    return {**measurement.validation_retention, **beside}


def _percentile(latency: Latency, name: str) -> Estimate | None:
    value, low, high = (getattr(latency, f"{name}{end}") for end in ("", "_low", "_high"))
    return None if value is None else Estimate(value, value if low is None else low, value if high is None else high)


def _exact(value: float) -> Estimate:
    return Estimate(value, value, value)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _list(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "nothing"
