"""quantize, `mode: auto`: calibration; then sensitive operators in float; then training: the first within budget."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from compresslab.errors import BadInput
from compresslab.export.operator_times import GraphTimes, operator_times
from compresslab.quantization.sensitivity import Harm, Sensitivity, proposals, sensitivities
from compresslab.world import on_main

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

    from compresslab.candidate import Candidate
    from compresslab.measure.artifact import Artifact
    from compresslab.measure.budget import BudgetResult
    from compresslab.stage import Assessment, Context
    from compresslab.stages.quantize import Quantize

_DIGITS = 4
# What operators that have no name in the file are there.
_KINDS = {
    "layer": ("Conv", "Gemm"), "add": ("Add",), "average": ("AveragePool", "GlobalAveragePool"), "matmul": ("MatMul",),
}  # fmt: skip
_ANOTHER = "leave `decided` out of it to decide anew"


def attempts(stage: Quantize, candidate: Candidate, context: Context) -> tuple[Candidate, ...]:
    """Every attempt, in the order they were made; the last one is within budget if any is.

    Raises:
        BadInput: A lock file that is replayed has decisions that make no sense here.
    """
    rescue = _Rescue(stage, candidate, context)
    return rescue.replayed(context.decided) if context.decided is not None else rescue.made()


@dataclass(frozen=True)
class _Ranking:
    """The operators by what keeping them in float is worth, and the sets worth trying."""

    operators: tuple[Sensitivity, ...]
    sets: tuple[tuple[str, ...], ...]

    def plain(self) -> list[dict[str, Any]]:
        return [
            {"operator": one.name, "harm": _rounded(one.harm),
             "microseconds": None if one.microseconds is None else round(one.microseconds, 2)}
            for one in self.operators
        ]  # fmt: skip


class _Rescue:
    """The attempts at one network."""

    def __init__(self, stage: Quantize, candidate: Candidate, context: Context) -> None:
        self.stage, self.candidate, self.context = stage, candidate, context
        self.note = context.progress.note
        self.calibrated: nn.Module | None = None

    def made(self) -> tuple[Candidate, ...]:
        """Decided by what `assess` says of each."""
        first, assessed = self._assessed(self._attempt({"mode": "ptq"}, 0), 0)
        found = [first]
        if assessed.budget.status == "pass":
            self.note("auto: calibration alone is within budget")
            return (first,)
        told = "missed" if assessed.budget.status == "fail" else "not met for certain"
        self.note(f"auto: after calibration the budget is {told} ({'; '.join(assessed.budget.violations)})")
        if not assessed.budget.misses_quality:
            self.note("auto: only costs are over the budget, which neither operators in float nor training can mend")
            return (first,)
        ranking = self._ranking(assessed)
        for keep in ranking.sets:
            number = len(found)
            decisions = {"mode": "mixed", "keep_float": list(keep), "sensitivity": ranking.plain()}
            made, assessed = self._assessed(self._attempt(decisions, number), number)
            found.append(made)
            what = f"{len(keep)} of {len(ranking.operators)} operators in float ({', '.join(keep)})"
            if assessed.budget.status == "pass":
                self.note(f"auto: rescued by step {number}, with {what}")
                return tuple(found)
            self.note(f"auto: step {number}, {what}, is not within budget: {'; '.join(assessed.budget.violations)}")
            if assessed.budget.misses_cost:
                self.note("auto: more operators in float would cost even more; going on to training")
                break
        number = len(found)
        made, assessed = self._assessed(self._attempt({"mode": "qat"}, number), number)
        if assessed.budget.status == "pass":
            self.note(f"auto: rescued by step {number}, training with the rounding in place")
        else:
            self.note(f"auto: no attempt is within budget; after training: {'; '.join(assessed.budget.violations)}")
        return (*found, made)

    def replayed(self, decided: Sequence[Mapping[str, Any]]) -> tuple[Candidate, ...]:
        """The attempts that another run made."""
        modes = [str(one.get("mode")) for one in decided]
        if not modes or modes[0] != "ptq" or not set(modes) <= {"ptq", "mixed", "qat"}:
            raise BadInput(f"the lock file says that `auto` tried {', '.join(modes) or 'nothing'}; {_ANOTHER}")
        kept = ("mode", "keep_float", "sensitivity", "attempt", "verdict", "rescued")
        self.note(f"auto: as the lock file says, {', then '.join(modes)}")
        return tuple(
            self._attempt({key: one[key] for key in kept if key in one}, number) for number, one in enumerate(decided)
        )

    def _attempt(self, decisions: Mapping[str, Any], number: int) -> Candidate:
        stage, candidate, context = self.stage, self.candidate, self.context
        if decisions["mode"] == "mixed":
            prepared = stage.calibrated(candidate, context, decisions["keep_float"])
            return stage.converted(prepared, candidate, context, decisions, number)
        prepared = self.calibrated if self.calibrated is not None else stage.calibrated(candidate, context)
        self.calibrated = prepared
        if decisions["mode"] == "qat":
            return stage.trained(prepared, candidate, context, decisions, number)
        return stage.converted(prepared, candidate, context, decisions, number)

    def _assessed(self, made: Candidate, number: int) -> tuple[Candidate, Assessment]:
        """The attempt with what came of it among its decisions."""
        assessed = self.context.assess(made)
        told = {"attempt": number, "verdict": assessed.budget.status, "rescued": _rescued(assessed.budget, number)}
        step = made.lineage[-1]
        mode = {"mode": step.decisions["mode"]}
        step = replace(step, decisions={**mode, **told, **step.decisions})
        return replace(made, lineage=(*made.lineage[:-1], step)), assessed

    def _ranking(self, assessed: Assessment) -> _Ranking:
        """Measured in the main process: another one's clock might put another operator first."""

        def rank() -> _Ranking:
            task = self.context.task
            count = min(self.stage.sensitivity_samples, len(task.splits["calibration"].inputs))
            inputs = torch.from_numpy(task.batch("calibration", np.arange(count), None))
            harm = Harm(self.candidate.network.module, inputs, self.stage.quantizer())
            times = self._microseconds(harm.roles, assessed)
            ranked = sensitivities(harm, times)
            return _Ranking(ranked, proposals(harm, ranked, lambda told: self.note(f"auto: {told}")))

        return on_main(rank)

    def _microseconds(self, roles: Mapping[str, str], assessed: Assessment) -> dict[str, float]:
        """What each operator takes more in float than as integers, by ONNX Runtime's profile of both graphs."""
        if assessed.artifact is None or assessed.parent is None:
            return {}
        point = assessed.measurement.latency[0]
        task = self.context.task
        rows = np.arange(point.batch) % len(task.splits["validation"].inputs)
        inputs = task.batch("validation", rows, None)

        def times(artifact: Artifact) -> dict[str, float]:
            feed = {artifact.manifest.graphs[point.graph].inputs[0].name: inputs}
            graph = artifact.graphs[point.graph]
            return _by_name(roles, operator_times(graph, artifact.manifest.session, feed, point.threads))

        floating, integer = times(assessed.parent), times(assessed.artifact)
        return {name: floating[name] - integer[name] for name in roles if name in floating and name in integer}


def _by_name(roles: Mapping[str, str], times: GraphTimes) -> dict[str, float]:
    """Layers have their names in the file; what has none is matched in order, by kind, if both sides have as many."""
    found = {one.name: one.microseconds for one in times.operators if one.name in roles}
    for role, kinds in _KINDS.items():
        nameless = [name for name, of in roles.items() if of == role and name not in found]
        others = [one.microseconds for one in times.operators if one.kind in kinds and one.name not in roles]
        if len(nameless) == len(others):
            found.update(zip(nameless, others, strict=True))
    return found


def _rescued(budget: BudgetResult, number: int) -> bool:
    return number > 0 and budget.status == "pass"


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
