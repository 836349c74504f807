"""What a run found: its points, the frontier, and the one selected under the budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from compresslab.measure.artifact import Artifact
from compresslab.measure.budget import BudgetResult
from compresslab.measure.measurement import Measurement

_NO_BUDGET = BudgetResult("pass")


@dataclass(frozen=True)
class Point:
    """One exported and measured model. `lineage` names its stages, `baseline` first; `id` is unique in the run.

    `reference` marks a point that is measured beside the pipeline: what a user would have without it.
    """

    id: str
    stage: str
    lineage: tuple[str, ...]
    cached: bool
    seconds: float
    artifact: Artifact
    measurement: Measurement
    settings: Mapping[str, Any] = field(default_factory=dict)
    decisions: Mapping[str, Any] = field(default_factory=dict)
    budget: BudgetResult = _NO_BUDGET
    reference: bool = False


@dataclass(frozen=True)
class Report:
    """Everything a run hands back; `results.json`, `report.md` and `report.html` are written from it alone."""

    pipeline: str
    points: tuple[Point, ...]
    frontier: tuple[str, ...]
    selected: str | None
    select: str
    budget: BudgetResult
    machine: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    def point(self, point_id: str) -> Point:
        """The point with this id; KeyError if there is none."""
        for point in self.points:
            if point.id == point_id:
                return point
        raise KeyError(point_id)
