"""The gate's limits on quality: on data given to it, or as the run recorded it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from compresslab.errors import ConfigError, Problem, did_you_mean
from compresslab.measure.budget import retentions
from compresslab.measure.checked import Check
from compresslab.measure.gate_latency import ERROR
from compresslab.measure.measurement import Estimate
from compresslab.measure.metric_names import (
    BOTH_WAYS,
    CLASS_METRICS,
    METRIC_NAMES,
    RETRIEVAL_METRICS,
    SCORE_METRICS,
    label_of,
)
from compresslab.measure.tower_samples import TowerSamples

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from compresslab.measure.artifact import Artifact
    from compresslab.measure.budget import Status
    from compresslab.measure.evaluate import EvalSplit
    from compresslab.measure.gate_budget import GateBudget
    from compresslab.measure.measurement import Measurement
    from compresslab.measure.metrics import Metric

_VALIDATION: Final = "validation"
_SHOWN: Final = 0.95


def quality_keys(budget: GateBudget) -> tuple[str, ...]:
    """The budget's limits on quality."""
    keys = [key for metric in METRIC_NAMES for key in (metric, f"{metric}_drop") if getattr(budget, key) is not None]
    own = [f"{place}.{name}" for place in ("at_least", "drop", "retention") for name in getattr(budget, place)]
    return (*keys, *own)


def is_drop(key: str) -> bool:
    """Whether the limit is on what is lost, of the baseline's quality."""
    return key.endswith("_drop") or key.startswith("drop.")


def measured_quality(
    budget: GateBudget,
    artifact: Artifact,
    baseline: Artifact | None,
    split: EvalSplit,
    together: int,
    own: str | None = None,
) -> list[Check]:
    """Evaluates both models on the same examples, each with its own preprocessing.

    A drop is judged for non-inferiority: it passes where the interval of the paired difference lies within the limit.
    Wrong verdicts are as rare as with latency. Of embeddings `at_least` and `drop` limit recall@k, ndcg@10 or
    similarity, whichever the examples are for; of two towers the mean of both directions, as a run does.

    Args:
        budget: The limits; those without a value are left out. `retention` is not for data of one's own.
        artifact: The model.
        baseline: What drops are from; needed if there are any.
        split: The examples.
        together: How many limits of the gate are uncertain, here and elsewhere.
        own: `python:module:function` of the user, which may run because they named it to the gate.

    Raises:
        ConfigError: A limit is on a metric of another kind of answer, or on one of the user's that was not named.
        DataError: The targets do not fit the outputs.
    """
    # scikit-learn takes a second to load, which a gate on latency alone need not wait for.
    from compresslab.measure.evaluate import predict
    from compresslab.measure.metrics import metric_of
    from compresslab.measure.quality import mcnemar, quality, quality_delta

    embeds = artifact.manifest.embedding is not None
    scores = split.targets.dtype.kind == "f"
    named = _named(split, own, embeds=embeds)
    if embeds:
        _require_embeddings(budget, list(named))
    else:
        _require_kind(budget, SCORE_METRICS if scores else CLASS_METRICS)
        _require_named(budget, own)
    outputs = predict(artifact, split.inputs)
    reference = None if baseline is None else predict(baseline, split.inputs)
    checks = []
    for name in METRIC_NAMES:
        at_least, drop = getattr(budget, name), getattr(budget, f"{name}_drop")
        if at_least is not None:
            value = partial(quality, metric_of(name), outputs, split.targets)
            checks.append(_check(name, at_least, together, value))
        if drop is not None and reference is not None:
            # From the baseline's side a drop is a gain.
            fall = partial(quality_delta, metric_of(name), reference, outputs, split.targets)
            why = f"paired on {len(split.targets)} examples"
            if not scores:
                won, lost, chance = mcnemar(outputs, reference, np.asarray(split.targets, np.int64))
                why = f"{lost} examples lost, {won} won of {len(split.targets)}; McNemar p = {chance:.2g}"
            checks.append(_check(f"{name}_drop", drop, together, fall, why))
    for name, metric in named.items():
        if name in budget.at_least:
            value = partial(quality, metric, outputs, split.targets)
            checks.append(_check(f"at_least.{name}", budget.at_least[name], together, value))
        if name in budget.drop and reference is not None:
            fall = partial(quality_delta, metric, reference, outputs, split.targets)
            why = f"paired on {len(split.targets)} examples"
            if embeds:
                why = f"paired by {'pair' if scores else 'query'}"
            checks.append(_check(f"drop.{name}", budget.drop[name], together, fall, why))
    return checks


def embedding_metrics(split: EvalSplit) -> dict[str, Metric]:
    """What embeddings are measured by on these examples, by the names that budgets have for it."""
    from compresslab.measure.metrics import METRICS

    if split.targets.dtype.kind == "f":
        return {"similarity": METRICS["similarity"]}
    both = BOTH_WAYS if isinstance(split.inputs, TowerSamples) else ""
    return {name: METRICS[f"{both}{name}"] for name in RETRIEVAL_METRICS}


def recorded_quality(budget: GateBudget, measurement: Measurement) -> list[Check]:
    """As the run measured it, by its 95 % intervals: the model is the same bytes, so this is not old.

    Quality is that on validation; retention may be that on a benchmark of the task.

    Raises:
        ConfigError: The budget limits something that the run did not measure.
    """
    qualities = {name.rpartition("/")[2]: value for name, value in measurement.quality[_VALIDATION].items()}
    delta = measurement.validation_delta or Estimate(0.0, 0.0, 0.0)
    drop = Estimate(-delta.value, -delta.high, -delta.low, delta.n)
    checks = []
    for key in quality_keys(budget):
        place, _, name = key.partition(".")
        metric = name or key.removesuffix("_drop")
        if place == "retention":
            kept = retentions(measurement)
            if name not in kept:
                raise _unmeasured(key, name, list(kept))
            checks.append(_recorded(key, budget.retention[name], kept[name]))
        elif metric not in qualities:
            raise _unmeasured(key, metric, list(qualities))
        else:
            limit = getattr(budget, place)[name] if name else getattr(budget, key)
            checks.append(_recorded(key, limit, drop if is_drop(key) else qualities[metric]))
    return checks


def _named(split: EvalSplit, own: str | None, *, embeds: bool) -> Mapping[str, Metric]:
    """What `at_least` and `drop` may name on these examples."""
    from compresslab.measure.metrics import metric_of

    found = embedding_metrics(split) if embeds else {}
    return found if own is None else {**found, label_of(own): metric_of(own)}


def _require_embeddings(budget: GateBudget, known: Sequence[str]) -> None:
    """Refuses limits on what embeddings are not measured by, or what these examples are not for."""
    listed = ", ".join(f"`{name}`" for name in known)
    wrong = {key: f"the model's answers are embeddings; limit {listed} by `at_least` or `drop`"
             for metric in METRIC_NAMES for key in (metric, f"{metric}_drop") if getattr(budget, key) is not None
             }  # fmt: skip
    for place in ("at_least", "drop"):
        for name in getattr(budget, place):
            if name not in known:
                wrong[f"{place}.{name}"] = f"is not measured on these examples, but {listed}{did_you_mean(name, known)}"
    if wrong:
        raise ConfigError([Problem("budget", None, key, message) for key, message in wrong.items()])


def _require_kind(budget: GateBudget, allowed: tuple[str, ...]) -> None:
    """Refuses limits on metrics that the data has no targets for."""
    others = [name for name in METRIC_NAMES if name not in allowed]
    wrong = [key for name in others for key in (name, f"{name}_drop") if getattr(budget, key) is not None]
    if wrong:
        listed = ", ".join(f"`{name}`" for name in allowed)
        message = f"the model's answers are of another kind; limit one of {listed}, or their drops"
        raise ConfigError([Problem("budget", None, key, message) for key in wrong])


def _require_named(budget: GateBudget, own: str | None) -> None:
    """Refuses limits on the user's metrics whose code nobody named: what only a file names is not run."""
    known = () if own is None else (label_of(own),)
    unnamed = [(place, name) for place in ("at_least", "drop") for name in getattr(budget, place) if name not in known]
    if unnamed:
        raise ConfigError([
            Problem("budget", None, f"{place}.{name}", f"`{name}` is a metric of your own, and no file's code is run "
                    f"unless you name it; give --metric python:module:{name}, or leave out --data")
            for place, name in unnamed
        ])  # fmt: skip


def _unmeasured(key: str, name: str, known: list[str]) -> ConfigError:
    listed = ", ".join(f"`{one}`" for one in known) or "nothing"
    message = f"the run measured {listed}{did_you_mean(name, known)}; give --data to measure it"
    return ConfigError([Problem("budget", None, key, message)])


def _recorded(key: str, limit: float, found: Estimate) -> Check:
    return _check(key, limit, 1, lambda _: found, "as the run measured it")


def _check(key: str, limit: float, together: int, estimate: Callable[[float], Estimate], why: str = "") -> Check:
    at_most = is_drop(key)
    passing, failing = estimate(1.0 - 2.0 * ERROR), estimate(1.0 - 2.0 * ERROR / together)
    if at_most:
        within, beyond = passing.high <= limit, failing.low > limit
    else:
        within, beyond = passing.low >= limit, failing.high < limit
    status: Status = "pass" if within else "fail" if beyond else "inconclusive"
    if status == "inconclusive":
        why = "; ".join(filter(None, [why, "more examples are needed to tell"]))
    shown = estimate(_SHOWN)
    if at_most:
        return Check(key, "at most", limit, "points", status, shown, why)
    return Check(key, "at least", limit, "share", status, shown, why)
