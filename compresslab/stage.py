"""The Stage protocol, and the Context that a stage is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from compresslab.candidate import Candidate, Step, TorchModel
from compresslab.digest import digest_of
from compresslab.measure.budget import BudgetResult
from compresslab.measure.measurement import Measurement
from compresslab.progress import Progress

if TYPE_CHECKING:
    from compresslab.measure.artifact import Artifact
    from compresslab.pruning import Clock, Precision
    from compresslab.tasks import Task
    from compresslab.teacher import Teacher


@dataclass(frozen=True)
class Assessment:
    """What `Context.assess` answers: the measurement, and the budget's verdict on it.

    `artifact` is what was measured, and `parent` what the stage started from, exported; None where nothing was.
    """

    measurement: Measurement
    budget: BudgetResult
    artifact: Artifact | None = None
    parent: Artifact | None = None


@dataclass(frozen=True)
class Context:
    """What a stage may use. `scratch` is a folder that survives a crash: checkpoints go there.

    `assess` exports and measures a candidate (validation only) and is injected by the runner, so that no stage
    imports the benchmark. `key` identifies this application of the stage: its settings and all that went in.
    `tuned` names the settings whose values were chosen on validation. `clock` times layers and networks on this machine
    at the deployment point, and `ships` is the precision that the pipeline ends with. `decided` has the decisions of
    every candidate that this application gave in an earlier run, where its lock file is replayed: what a clock or a
    verdict decided then is followed, not decided again.
    """

    task: Task
    teacher: Teacher | None
    seed: int
    device: str
    scratch: Path
    progress: Progress
    assess: Callable[[Candidate], Assessment]
    key: str
    clock: Clock
    ships: Precision = "fp32"
    tuned: frozenset[str] = frozenset()
    decided: tuple[Mapping[str, Any], ...] | None = None
    towers: Mapping[str, Context] = field(default_factory=dict)
    """Of a model of several towers, each one's own: its view of the task, its teacher, its clock."""

    def reading(self, model: TorchModel) -> Context:
        """The same with the task as this network reads it; what is asked of the teacher stays as it is."""
        return replace(self, task=self.task.read_by(model.preprocessing))

    def step(self, stage: Stage, decisions: Mapping[str, Any], attempt: int = 0) -> Step:
        """The record of this application of `stage`; `attempt` numbers the candidates where it returns several."""
        return Step(stage.kind, stage.model_dump(mode="json"), decisions, digest_of([self.key, attempt]))


class Stage(Protocol):
    """Frozen settings and one verb."""

    @property
    def kind(self) -> str:
        """Its key in YAML."""

    @property
    def version(self) -> int:
        """Rises when its meaning changes."""

    def apply(self, candidate: Candidate, context: Context) -> tuple[Candidate, ...]:
        """New candidates made from this one, which is left unchanged."""

    def model_dump(self, *, mode: Literal["json", "python"] = "python") -> dict[str, Any]:
        """The settings as plain data."""
