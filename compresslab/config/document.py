"""The shape of a pipeline file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, create_model, field_validator, model_validator

from compresslab.measure.bench import BenchSettings
from compresslab.measure.budget import Budget
from compresslab.models import ModelSpec
from compresslab.models.spec import TOWERS
from compresslab.pipeline import Device, Pipeline, Select, Tower
from compresslab.settings import Settings
from compresslab.stages import STAGES, EachTower
from compresslab.tasks import TaskSpec
from compresslab.teacher import TeacherSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from compresslab.stage import Stage


class _OneStage(Settings):
    @property
    def stage(self) -> Stage:
        """The settings that were given."""
        towers = {name: entry.stage for name in TOWERS if (entry := getattr(self, name, None)) is not None}
        if towers:
            return EachTower(towers)
        stage: Stage = getattr(self, self._given()[0])
        return stage

    @model_validator(mode="after")
    def _exactly_one(self) -> _OneStage:
        given = self._given()
        towers = {name: entry for name in TOWERS if (entry := getattr(self, name, None)) is not None}
        if towers and given:
            raise ValueError(
                f"`{next(iter(towers))}` says what is done to one tower, and `{given[0]}` what is done to all; begin "
                "each with `- `"
            )
        if towers:
            kinds = list(dict.fromkeys(entry.stage.kind for entry in towers.values()))
            if len(kinds) > 1:
                raise ValueError(
                    f"an entry does the same kind of stage to its towers, but got {' and '.join(kinds)}; begin each "
                    "with `- `"
                )
            return self
        if not given:
            raise ValueError(f"one of {', '.join(f'`{kind}`' for kind in STAGES)} must be given, but got none")
        if len(given) > 1:
            found = " and ".join(f"`{kind}`" for kind in given)
            raise ValueError(f"one stage an entry must be given, but got {found}; begin each with `- `")
        return self

    def _given(self) -> list[str]:
        return [kind for kind in STAGES if getattr(self, kind) is not None]


_FIELDS: dict[str, Any] = {
    kind: (stage | None, Field(None, description=(stage.__doc__ or "").partition("\n")[0]))
    for kind, stage in STAGES.items()
}

TowerEntry = create_model(
    "TowerEntry",
    __base__=_OneStage,
    __doc__="A stage of one tower: its kind, and its settings.",
    __module__=__name__,
    **_FIELDS,
)

_TOWER_FIELDS: dict[str, Any] = {
    name: (TowerEntry | None, Field(None, description=f"What is done to the {name} tower alone, of a model of two."))
    for name in TOWERS
}

StageEntry = create_model(
    "StageEntry",
    __base__=_OneStage,
    __doc__="A stage of the pipeline: its kind, and its settings.",
    __module__=__name__,
    **_FIELDS,
    **_TOWER_FIELDS,
)


class PipelineDocument(Settings):
    """A pipeline: a trained network, data, what to do, and a budget."""

    name: str | None = None
    """Names the run directory, `runs/<name>`; the file's own name if not given."""
    task: TaskSpec
    """The data, how it is split, and what the network has to do on it."""
    model: ModelSpec
    """The network to compress, which is also the teacher unless `teacher` is given."""
    teacher: TeacherSpec | None = None
    """Another network to learn from, predictions, or several of these."""
    stages: Annotated[tuple[StageEntry, ...], Field(strict=False, min_length=1)]
    """What is done, in this order."""
    references: Annotated[tuple[StageEntry, ...], Field(strict=False)] = ()
    """Stages applied to `model` alone and measured beside: what one would have otherwise."""
    bench: BenchSettings = BenchSettings()
    """How latency is measured; its first point is the deployment."""
    budget: Budget | None = None
    """Limits that the selected model has to keep."""
    select: Select = "smallest"
    """Which of the models within the budget is handed back."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Everything random derives from it."""
    device: Device = "auto"
    """Where networks are trained; `auto` takes CUDA where there is any."""
    freeze: Tower | Annotated[tuple[Tower, ...], Field(strict=False)] = ()
    """Towers that no stage touches: an index of their embeddings stays valid."""

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, name: str | None) -> str | None:
        if name is not None and name != folder_name(name):
            raise ValueError(f"a name may hold letters, digits, `-`, `_` and `.`, but got {name!r}")
        return name

    @field_validator("teacher")
    @classmethod
    def _weighs_against_others(cls, teacher: TeacherSpec | None) -> TeacherSpec | None:
        if teacher is not None and teacher.weight != 1.0:
            raise ValueError("`weight` is that of a teacher inside an `average`; leave it out here")
        return teacher

    def pipeline(self, name: str, tuned: Mapping[int, Stage]) -> Pipeline:
        """The pipeline this says, called `name` unless it has a name of its own.

        Args:
            name: What to call it.
            tuned: Stages by their place, instead of those here.

        Raises:
            ConfigError: Its stages are in an order that cannot work.
        """
        return Pipeline(
            task=self.task,
            model=self.model,
            teacher=self.teacher,
            stages=tuple(tuned.get(index, entry.stage) for index, entry in enumerate(self.stages)),
            references=tuple(entry.stage for entry in self.references),
            bench=self.bench,
            budget=self.budget,
            select=self.select,
            seed=self.seed,
            device=self.device,
            freeze=(self.freeze,) if isinstance(self.freeze, str) else self.freeze,
            name=self.name or name,
        )


def folder_name(text: str) -> str:
    """`text` with what may not stand in a folder's name replaced by `-`."""
    kept = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in text)
    return kept.lstrip(".") or "pipeline"
