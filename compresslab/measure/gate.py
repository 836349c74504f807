"""The gate: one model against a budget, on this machine, now; pass, fail, or honestly inconclusive."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from compresslab.errors import BadInput
from compresslab.measure.bench import BenchPoint, BenchSettings, measuring_processes, serving
from compresslab.measure.checked import Check, GateResult
from compresslab.measure.gate_latency import Decision, Observation, decide, latency_limits
from compresslab.measure.gate_quality import is_drop, quality_keys
from compresslab.measure.machine import conditions, fingerprint, usable_cores
from compresslab.measure.measurement import Estimate
from compresslab.measure.onnx_file import GRAPH
from compresslab.measure.samples import LatencySamples
from compresslab.measure.subject import EXAMPLE
from compresslab.measure.together import together

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy as np
    import numpy.typing as npt

    from compresslab.measure.checked import Sense, Unit
    from compresslab.measure.gate_budget import GateBudget
    from compresslab.measure.gate_latency import LatencyLimit
    from compresslab.measure.subject import Subject

TIME_LIMIT = 60.0
"""Seconds that measuring latency may take before the verdict is `inconclusive`."""

# Many short processes tell more than few long ones: what differs from process to process is then averaged.
_SECONDS = 0.25
_COUNT = 30
_MOST_SECONDS = 4.0
_WARMUP_SECONDS = 0.2
# A tail that rests on one call a process says nothing.
_CALLS_BEYOND = 2
_AS_EXAMPLES: Mapping[str, str] = {}


@dataclass(frozen=True)
class Gated:
    """A model at the gate, the size of its files, and by graph what it is fed: `example`, unless it is there."""

    subject: Subject
    bytes: int
    inputs: Mapping[str, str] = field(default_factory=dict)


def gate(
    budget: GateBudget,
    model: Gated,
    baseline: Gated | None,
    quality: Callable[[int], list[Check]] | None = None,
    time_limit: float = TIME_LIMIT,
    tell: Callable[[str], None] = lambda _: None,
    notes: Sequence[str] = (),
) -> GateResult:
    """Measures what the budget limits, and judges it.

    Args:
        budget: The limits.
        model: What is judged.
        baseline: What relative limits are against; measured interleaved with the model.
        quality: The checks of quality, given how many limits of the gate are uncertain; None where the budget has none.
        time_limit: Seconds for latency.
        tell: Told of every look at the latencies.
        notes: Kept for the reader.

    Raises:
        BadInput: The budget asks for what cannot be measured: a relative limit without a baseline, more threads than
            cores, quality without data, a graph that is not there.
        BenchmarkFailed: A measuring process died.
    """
    limits = latency_limits(budget)
    require_measurable(budget, baseline is not None, quality is not None)
    _require_graphs(budget, model.subject)
    uncertain = len(limits) + len(quality_keys(budget))
    decision = None
    if limits:
        decision = decide(
            limits, _observe(limits, budget, model, baseline), time_limit, uncertain, _teller(limits, tell)
        )
    checks = [*_latency_checks(limits, decision), *_size_checks(budget, model, baseline)]
    if budget.peak_rss_mb is not None:
        tell("memory")
        checks.append(_exact("peak_rss_mb", "at most", budget.peak_rss_mb, _memory(budget, model, limits), "mb"))
    if quality is not None:
        tell("quality")
        checks += quality(uncertain)
    threads = f"{budget.threads} thread{'s' if budget.threads > 1 else ''}"
    return GateResult(
        model=model.subject.name,
        baseline=None if baseline is None else baseline.subject.name,
        where=f"batch {budget.batch}{_other_batches(budget)}, {threads}",
        checks=tuple(checks),
        processes=0 if decision is None else decision.processes,
        seconds=0.0 if decision is None else decision.seconds,
        machine={**fingerprint(), **conditions()},
        notes=tuple(notes),
    )


def needs_baseline(budget: GateBudget) -> bool:
    """Whether a limit is relative."""
    relative = [limit.key for limit in latency_limits(budget) if limit.relative]
    drops = [key for key in quality_keys(budget) if is_drop(key)]
    return bool(relative or drops) or budget.size_ratio is not None


def require_measurable(budget: GateBudget, has_baseline: bool, has_quality: bool) -> None:
    """Refuses what could not be measured, before anything is.

    Raises:
        BadInput: See `gate`.
    """
    relative = [limit.key for limit in latency_limits(budget) if limit.relative]
    relative += ["size_ratio"] * (budget.size_ratio is not None)
    if relative and not has_baseline:
        raise BadInput(
            f"{', '.join(f'`{key}`' for key in relative)}: relative to a baseline, and there is none; "
            "give the model to compare with as --baseline MODEL_OR_RUN: it is measured here, beside this one"
        )
    cores = usable_cores()
    if budget.threads > cores:
        raise BadInput(
            f"`threads: {budget.threads}` cannot be measured: this process may use {cores} "
            f"core{'s' if cores > 1 else ''}; set `threads: {cores}`, or give the job more cores"
        )
    if quality_keys(budget) and not has_quality:
        raise BadInput(
            f"{', '.join(f'`{key}`' for key in quality_keys(budget))}: there is nothing to measure quality on; "
            "give labelled data as --data (an .npz file, of images a folder with a sub-folder for each class, of texts "
            "a table)"
        )


def process_settings(
    budget: GateBudget,
    limits: Sequence[LatencyLimit],
    graphs: Sequence[str] = (GRAPH,),
    inputs: Mapping[str, str] = _AS_EXAMPLES,
) -> BenchSettings:
    """What one process of a gate measures: every graph at one point, of those that something is limited of."""
    tail = min((1.0 - limit.share for limit in limits), default=1.0)
    wanted = {limit.graph for limit in limits}
    if None in wanted or budget.peak_rss_mb is not None:
        wanted |= set(_called(budget, graphs))
    return BenchSettings(
        points=tuple(
            BenchPoint(
                batch=budget.batch_of(graph), threads=budget.threads, graph=graph, inputs=inputs.get(graph, EXAMPLE)
            )
            for graph in graphs
            if graph in wanted
        ),
        processes=1,
        min_seconds=_SECONDS,
        min_count=max(_COUNT, round(_CALLS_BEYOND / tail)),
        max_seconds=_MOST_SECONDS,
        warmup_seconds=_WARMUP_SECONDS,
    )


def _called(budget: GateBudget, graphs: Sequence[str]) -> tuple[str, ...]:
    """The graphs that a call of the model is a call of."""
    return tuple(graphs) if budget.graph is None else (budget.graph,)


def _require_graphs(budget: GateBudget, subject: Subject) -> None:
    for name in (budget.graph, *budget.graphs):
        if name is not None and name not in subject.graphs:
            raise BadInput(
                f"{subject.name}: the budget limits the graph `{name}`, but it has {', '.join(subject.graphs)}"
            )


def _other_batches(budget: GateBudget) -> str:
    others = [(graph, budget.batch_of(graph)) for graph in budget.graphs]
    told = [f"{graph} {batch}" for graph, batch in others if batch != budget.batch]
    return f" ({', '.join(told)})" if told else ""


def _memory(budget: GateBudget, model: Gated, limits: Sequence[LatencyLimit]) -> float:
    """Of several graphs a process each: the sum is what a machine needs that serves all of them."""
    graphs = tuple(model.subject.graphs)
    settings = process_settings(budget, limits, graphs, model.inputs)
    return sum(
        serving(model.subject, settings.model_copy(update={"points": (point,)})).peak_rss_mb
        for point in settings.points
        if point.graph in _called(budget, graphs)
    )


def _observe(
    limits: Sequence[LatencyLimit], budget: GateBudget, model: Gated, baseline: Gated | None
) -> Iterator[Observation]:
    """A fresh process for each observation, without end. The baseline comes along only if it is needed."""
    subjects = [model.subject]
    if baseline is not None and any(limit.relative for limit in limits):
        subjects.append(baseline.subject)
    graphs = tuple(model.subject.graphs)
    settings = process_settings(budget, limits, graphs, model.inputs)
    with measuring_processes(subjects, settings) as process:
        number = 0
        while True:
            begun = time.perf_counter()
            recorded = dict(zip((point.graph for point in settings.points), process(number), strict=True))
            figures = []
            for limit in limits:
                of = _called(budget, graphs) if limit.graph is None else (limit.graph,)
                figures.append(limit.figure(_a_call_of_each([recorded[graph] for graph in of])))
            calls = min(one.size for models in recorded.values() for one in models)
            yield Observation(tuple(figures), calls, time.perf_counter() - begun)
            number += 1


def _a_call_of_each(graphs: Sequence[Sequence[npt.NDArray[np.int64]]]) -> list[npt.NDArray[np.int64]]:
    """From nanoseconds [rounds, calls] by graph and model to those of the graphs together, by model."""
    parts = zip(*graphs, strict=True)
    return [together([LatencySamples((one,)) for one in its]).processes[0] for its in parts]


def _teller(limits: Sequence[LatencyLimit], tell: Callable[[str], None]) -> Callable[[Decision], None]:
    def look(decision: Decision) -> None:
        found = ", ".join(f"{one.key} {one.answer} {one.status}" for one in _latency_checks(limits, decision))
        tell(f"{decision.processes} processes, {decision.seconds:.1f} s: {found}")

    return look


def _latency_checks(limits: Sequence[LatencyLimit], decision: Decision | None) -> list[Check]:
    checks: list[Check] = []
    if decision is None:
        return checks
    for index, limit in enumerate(limits):
        status, found = decision.statuses[index], decision.estimates[index]
        why = _why_undecided(decision, index, found) if status == "inconclusive" else ""
        if limit.key == "speedup":
            checks.append(Check(limit.key, "at least", limit.limit, "times", status, found, why))
        else:
            unit: Unit = "share" if limit.relative else "ms"
            checks.append(Check(limit.key, "at most", limit.limit, unit, status, found, why))
    return checks


def _why_undecided(decision: Decision, index: int, found: Estimate | None) -> str:
    if found is None:
        return f"{decision.processes} processes had too few calls to know; raise --time-limit"
    spread = f"processes differ by {100 * decision.spreads[index]:.1f} %"
    if "fail" in decision.statuses:
        return f"{spread}; measuring ended when another limit was broken"
    return f"{spread}, and {decision.processes} do not settle it; raise --time-limit, or quieten the machine"


def _size_checks(budget: GateBudget, model: Gated, baseline: Gated | None) -> list[Check]:
    checks = []
    if budget.bytes is not None:
        checks.append(_exact("bytes", "at most", budget.bytes, model.bytes, "bytes"))
    if budget.size_ratio is not None and baseline is not None:
        checks.append(_exact("size_ratio", "at least", budget.size_ratio, baseline.bytes / model.bytes, "times"))
    return checks


def _exact(key: str, sense: Sense, limit: float, value: float, unit: Unit) -> Check:
    within = value >= limit if sense == "at least" else value <= limit
    return Check(key, sense, limit, unit, "pass" if within else "fail", Estimate(value, value, value))
