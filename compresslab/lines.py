"""The networks of a run: its one, or each of its towers, with what it sees of the task and whom it learns from.

A tower's line is that of an ordinary pipeline. What sets it apart is that it learns to be near what the other tower
makes of the samples that belong together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from compresslab.candidate import Candidate, Model, OnnxModel, TorchModel, Towers
from compresslab.clock import MachineClock
from compresslab.digest import digest_of
from compresslab.distillation.reduction import output_width
from compresslab.errors import ModelError
from compresslab.exports import Exports, TowersExports
from compresslab.keys import ships
from compresslab.models.onnx_net import digest as network_digest
from compresslab.pipeline import of_tower
from compresslab.preflight import fitting, fitting_model, lost_head, require_calibration_labels
from compresslab.rehearsal import rehearse
from compresslab.stage import Context
from compresslab.tasks.anchors import Anchors
from compresslab.tasks.objective import Embeddings
from compresslab.tasks.towers_task import TowersTask
from compresslab.teacher import OUTPUT, Question
from compresslab.teachers import Teachers

if TYPE_CHECKING:
    from pathlib import Path

    from compresslab.measure.evaluate import Answers
    from compresslab.models import ModelSpec
    from compresslab.pipeline import Pipeline
    from compresslab.progress import Progress
    from compresslab.stage import Assessment
    from compresslab.store import Store
    from compresslab.tasks import Task
    from compresslab.teacher import Teacher

_REHEARSED = 8


@dataclass(frozen=True)
class Line:
    """One network's way through a run.

    Args:
        pipeline: What is done to it.
        task: As it sees it.
        model: What it starts from.
        teachers: Whom it learns from.
        exports: How it is exported.
    """

    pipeline: Pipeline
    task: Task
    model: TorchModel | OnnxModel
    teachers: Teachers
    exports: Exports

    def teacher(self, trained: TorchModel | None) -> Teacher | None:
        """The given one, or what a `train` or `mutual` stage has made."""
        if self.teachers.given is not None or trained is None:
            return self.teachers.given
        return self.teachers.of(trained)


class Lines:
    """The lines of a run, by tower; one that is called nothing where the model is one network.

    Args:
        pipeline: What to do.
        task: The data.
        store: Where teachers' answers and times of layers are kept.
        device: Where networks run.
        progress: Told which of several teachers is the best.

    Raises:
        ModelError: A network cannot be built, does not fit the task, or does not embed in the space of the others.
        ConfigError: A stage asks for what is not there.
    """

    def __init__(
        self, pipeline: Pipeline, task: Task | TowersTask, store: Store, device: str, progress: Progress
    ) -> None:
        self._pipeline, self._store = pipeline, store
        self.exports: Exports | TowersExports
        if not isinstance(task, TowersTask):
            if pipeline.model.towers:
                raise ModelError("`model` has two towers, but the task is for one network; give `cross_modal`")
            model = fitting_model("model", pipeline.model, task, pipeline.seed)
            head = lost_head(pipeline.model, task.labels)
            if head is not None:
                progress.note(head)
            self.lines = {"": self._line(pipeline, task, model, "teacher", device, progress)}
            self.task: Task | TowersTask = task
            self.exports = self.lines[""].exports
            return
        if not pipeline.model.towers:
            raise ModelError(
                "the task is of images and texts, so `model` needs a network for each: `image` and `text`, or "
                "`hf` with a CLIP's folder"
            )
        self.task, models = _towers(pipeline, task)
        self.lines = {
            name: self._line(of_tower(pipeline, name), view, models[name], f"teacher.{name}", device, progress)
            for name, view in self.task.towers.items()
        }
        self.exports = TowersExports(
            self.task, {name: line.exports for name, line in self.lines.items()}, pipeline.seed
        )

    def _line(
        self,
        pipeline: Pipeline,
        task: Task,
        model: TorchModel | OnnxModel,
        teacher: str,
        device: str,
        progress: Progress,
    ) -> Line:
        def build(spec: ModelSpec) -> TorchModel | OnnxModel:
            return fitting_model(teacher, spec, task, pipeline.seed)

        require_calibration_labels(pipeline, task)
        teachers = Teachers(pipeline, model, build, task, self._store, device, progress)
        return Line(pipeline, task, model, teachers, Exports(task, pipeline.seed))

    @property
    def only(self) -> Line | None:
        """The line of one network; None of several towers."""
        return self.lines.get("")

    @property
    def model(self) -> Model:
        """What the run starts from."""
        only = self.only
        return Towers({name: line.model for name, line in self.lines.items()}) if only is None else only.model

    def answers(self, splits: Sequence[str]) -> Answers:
        """What the given teacher of one network answers, where that is none itself."""
        assert self.only is not None, "towers have networks as teachers"
        return self.only.teachers.answers(splits)

    def rehearse(self) -> None:
        """Tries every loss on a few samples, before anything is trained.

        Raises:
            ConfigError: With the path of the stage, and what is wrong.
        """
        for line in self.lines.values():
            task = line.task
            if task.in_one_space:
                groups = task.splits["train"].targets
                assert groups is not None, "pairs have groups"
                task = _anchored(task, _made_up(task.outputs, np.asarray(groups[:_REHEARSED], np.int64)))
            rehearse(line.pipeline, line.model, line.teachers, task)

    def taught_by(self, trained: str | None) -> str | None:
        """A digest of whom the lines learn from; None where that is nobody.

        Args:
            trained: Of what a stage has trained, if any.
        """
        found = {
            name: trained if (given := line.teachers.given) is None else given.digest
            for name, line in self.lines.items()
        }
        if self.only is not None:
            return found[""]
        return digest_of(found) if any(found.values()) else None

    def given_teacher(self) -> Model | None:
        """The networks of the pipeline's `teacher`; None where there is none, or it is not made of networks."""
        spec = self._pipeline.teacher
        if spec is None or not (spec.network or spec.towers):
            return None
        if self.only is not None:
            return spec.open(self.only.task.signature, self._pipeline.seed)
        return Towers(
            {
                name: tower.build(self.lines[name].task.signature, self._pipeline.seed)
                for name, tower in spec.towers.items()
            }
        )

    def context(
        self,
        parent: Candidate,
        trained: Callable[[], Candidate | None],
        *,
        device: str,
        scratch: Path,
        progress: Progress,
        assess: Callable[[Candidate], Assessment],
        key: str,
        decided: tuple[Mapping[str, Any], ...] | None,
    ) -> Context:
        """What a stage may use; of several towers, with what each has of its own.

        Args:
            parent: What the stage starts from.
            trained: Gives what a stage has trained, if any; asked only where somebody learns from it.
            device: As for `Context`, like all that follow.
            scratch: A folder.
            progress: Told of every step.
            assess: Measures a candidate.
            key: Of this application.
            decided: Decisions of an earlier run.
        """
        made = trained() if any(line.teachers.given is None for line in self.lines.values()) else None

        def of(name: str, line: Line, towers: Mapping[str, Context]) -> Context:
            one = name == ""
            task = line.task if one else _anchored(line.task, self._anchors(name, parent, made, progress))
            its = decided if one or decided is None else tuple(record.get(name, {}) for record in decided)
            validation = task.splits["validation"].inputs
            return Context(
                task=task,
                teacher=line.teacher(_network(made, name)),
                seed=self._pipeline.seed,
                device=device,
                scratch=scratch / name,
                progress=progress,
                assess=assess,
                key=key if one else digest_of([key, name]),
                clock=MachineClock(
                    self._store, line.pipeline.bench, validation, line.exports.network, progress.note, task.sample_sets
                ),
                ships=ships(line.pipeline),
                decided=its,
                towers=towers,
            )

        if self.only is not None:
            return of("", self.only, {})
        towers = {name: of(name, line, {}) for name, line in self.lines.items()}
        return replace(next(iter(towers.values())), key=key, scratch=scratch, decided=decided, towers=towers)

    def _anchors(self, name: str, parent: Candidate, trained: Candidate | None, progress: Progress) -> Anchors | None:
        """The other tower's training samples as its teacher embeds them, or it itself where it has none."""
        name = next(other for other in self.lines if other != name)
        line = self.lines[name]
        teacher = line.teacher(_network(trained, name))
        if teacher is None:
            own = _network(parent, name)
            if own is None:
                return None
            teacher = line.teachers.of(own)
        groups = line.task.splits["train"].targets
        assert groups is not None, "pairs have groups"
        rows, exact = np.arange(len(groups)), teacher.exact()

        def make() -> tuple[np.ndarray, np.ndarray]:
            answers = exact.answers(Question("train", None), progress)
            return np.asarray(answers.of(rows)[OUTPUT]), np.asarray(groups, np.int64)

        return Anchors(make)


def _towers(pipeline: Pipeline, task: TowersTask) -> tuple[TowersTask, dict[str, TorchModel]]:
    """The task in the space of the towers that are there, and all towers in it."""
    specs = pipeline.model.towers
    first = sorted(specs, key=lambda name: not specs[name].has_weights)
    models: dict[str, TorchModel] = {}
    for name in first:
        if specs[name].has_weights is False and task.width is None:
            raise ModelError(
                "nothing says how wide the space is: no tower is trained already; give `width` in the task"
            )
        models[name] = fitting(f"model.{name}", specs[name], task.towers[name], pipeline.seed)
        view = task.towers[name]
        inputs = view.read_by(models[name].preprocessing).first("validation")
        width = output_width(models[name].module, torch.from_numpy(inputs))
        if task.width not in (None, width):
            raise ModelError(
                f"model.{name}: embeds in {width} numbers, but the space of images and texts has {task.width}; give it "
                "an output of that width"
            )
        task = task.of_width(width)
    return task, {name: models[name] for name in task.towers}


def _network(candidate: Candidate | None, name: str) -> TorchModel | None:
    """One of a candidate's networks, or its only one; None of what is no network any more."""
    if candidate is None:
        return None
    model = candidate.model.towers[name] if isinstance(candidate.model, Towers) else candidate.model
    return model if isinstance(model, TorchModel) else None


def _anchored(task: Task, anchors: Anchors | None) -> Task:
    assert isinstance(task.objective, Embeddings), "towers embed"
    return replace(task, objective=replace(task.objective, anchors=anchors))


def _made_up(width: int, groups: np.ndarray) -> Anchors:
    """Noise, for trying out losses."""
    noise = np.random.default_rng(0).standard_normal((len(groups), width)).astype(np.float32)
    return Anchors(lambda: (noise, groups))


def digest_of_model(model: Model) -> str:
    """Of all its networks: structures and weights, or what ONNX files hold."""
    if isinstance(model, Towers):
        return digest_of({name: digest_of_model(tower) for name, tower in model.towers.items()})
    return network_digest(model)
