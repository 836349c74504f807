"""Pipeline, what a YAML says once it is checked; and the rules of order that make some of them impossible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from compresslab.errors import ConfigError, Problem
from compresslab.measure.bench import BenchPoint, BenchSettings
from compresslab.measure.budget import Budget
from compresslab.models.spec import TOWERS
from compresslab.stage import Stage
from compresslab.stages.distill import Distill
from compresslab.stages.each_tower import EachTower, each_tower
from compresslab.teacher.spec import TeacherSpec

if TYPE_CHECKING:
    from compresslab.models import ModelSpec
    from compresslab.tasks import TaskSpec

Select = Literal["smallest", "fastest", "most_accurate"]
Device = Literal["auto", "cpu", "cuda"]
Tower = Literal["image", "text"]
GRAPH = "model"

ON_GRAPHS = ("onnxruntime", "dynamic")
"""The backends of `quantize` that take an ONNX graph."""


@dataclass(frozen=True)
class Pipeline:
    """What the YAML says. Construction checks the rules of order, so an illegal pipeline cannot exist.

    Args:
        task: The data, its splits, its loss and its metrics.
        model: The root candidate, `baseline`, and the teacher unless `teacher` is given.
        stages: Applied in order, each to what the one before returned.
        references: Each applied to the baseline alone and measured beside: what one would have otherwise.
        budget: Limits on the selected model; None is always within budget.
        select: Which of the models within budget is handed back.
        seed: Everything random derives from it.
        freeze: Towers, of a model of two, that no stage touches.
        tower: The one that this is done to, where it is a part of a pipeline of two; see `of_tower`.
        decided: What a run decided by a clock or a verdict, as its lock file has it, by the key of what decided: it is
            followed where the key is the same. No part of what the pipeline says, so it does not count in comparisons.

    Raises:
        ConfigError: The stages are in an order that cannot work; every reason is told.
    """

    task: TaskSpec
    model: ModelSpec
    stages: Sequence[Stage]
    name: str = "pipeline"
    teacher: TeacherSpec | None = None
    references: Sequence[Stage] = ()
    bench: BenchSettings = field(default_factory=BenchSettings)
    budget: Budget | None = None
    select: Select = "smallest"
    seed: int = 0
    device: Device = "auto"
    freeze: Sequence[Tower] = ()
    tower: str | None = None
    decided: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", tuple(self.stages))
        object.__setattr__(self, "references", tuple(self.references))
        object.__setattr__(self, "freeze", tuple(self.freeze))
        if self.task.cross_modal is not None and self.tower is None:
            _take_apart(self)
        if self.model.towers:
            object.__setattr__(self, "bench", _of_each_graph(self.bench, tuple(self.model.towers)))
            for place in ("stages", "references"):
                object.__setattr__(self, place, _by_tower(self, place))
        broken = broken_rules(self)
        if broken:
            raise ConfigError([Problem(self.name, None, path, message) for path, message in broken])


def _take_apart(pipeline: Pipeline) -> None:
    """Dual encoders become their two towers, in place: what follows knows networks alone."""
    for place in ("model", "teacher"):
        spec = getattr(pipeline, place)
        try:
            if spec is not None:
                object.__setattr__(pipeline, place, spec.in_towers())
        except ValueError as error:
            raise ConfigError([Problem(pipeline.name, None, place, str(error))]) from error


def _by_tower(pipeline: Pipeline, place: Literal["stages", "references"]) -> tuple[EachTower, ...]:
    """The stages, each saying what it does to which tower."""
    made, broken = [], []
    for index, stage in enumerate(getattr(pipeline, place)):
        frozen = pipeline.freeze if place == "stages" else ()
        try:
            made.append(each_tower(stage, tuple(pipeline.model.towers), frozen))
        except ValueError as error:
            broken.append(Problem(pipeline.name, None, f"{place}[{index}].{stage.kind}", str(error)))
    if broken:
        raise ConfigError(broken)
    return tuple(made)


def _of_each_graph(bench: BenchSettings, names: Sequence[str]) -> BenchSettings:
    """Points of `model` are points of every tower, and a tower without a point gets one."""
    points: list[BenchPoint] = []
    for point in bench.points:
        graphs = names if point.graph == GRAPH else (point.graph,)
        points += [point.model_copy(update={"graph": graph}) for graph in graphs]
    missing = [name for name in names if name not in {point.graph for point in points}]
    points += [BenchPoint(graph=name) for name in missing]
    return bench.model_copy(update={"points": tuple(points)})


def task_with_transfer(pipeline: Pipeline) -> TaskSpec:
    """The task, with the images and texts without a partner that stages name."""
    given = pipeline.task.cross_modal
    if given is None:
        return pipeline.task
    named = [
        one for stage in pipeline.stages for part in variants(stage) for one in getattr(part, "transfer", None) or ()
    ]
    every = [*(given.transfer or ()), *named]
    once = [one for number, one in enumerate(every) if one not in every[:number]]
    if not once:
        return pipeline.task
    return pipeline.task.model_copy(update={"cross_modal": given.model_copy(update={"transfer": tuple(once)})})


def of_tower(pipeline: Pipeline, name: str) -> Pipeline:
    """What a pipeline of several towers does to one of them: an ordinary pipeline, without budget."""
    teacher = None if pipeline.teacher is None else pipeline.teacher.towers.get(name)

    def its(stages: Sequence[Stage]) -> tuple[Stage, ...]:
        own = [stage.towers[name] for stage in stages if isinstance(stage, EachTower) and name in stage.towers]
        # Its data are those of the whole.
        return tuple(one.model_copy(update={"transfer": None}) if isinstance(one, Distill) else one for one in own)

    points = [point for point in pipeline.bench.points if point.graph == name] or list(pipeline.bench.points[:1])
    return replace(
        pipeline,
        name=f"{pipeline.name}, {name}",
        model=pipeline.model.towers[name],
        teacher=None if teacher is None else TeacherSpec(**dict(teacher)),
        stages=its(pipeline.stages),
        references=its(pipeline.references),
        bench=pipeline.bench.model_copy(
            update={"points": tuple(one.model_copy(update={"graph": "model"}) for one in points)}
        ),
        budget=None,
        freeze=(),
        tower=name,
    )


def variants(stage: Stage) -> tuple[Stage, ...]:
    """The stage itself, or those of which a tuned one will choose; of several towers, each one's."""
    if isinstance(stage, EachTower):
        return tuple(variant for one in stage.inside for variant in variants(one))
    tuned = getattr(stage, "variants", None)
    return (stage,) if tuned is None else tuple(one.stage for one in tuned)


def trusted_code(pipeline: Pipeline) -> tuple[str, ...]:
    """The user's own functions that the pipeline names as builders of networks, and which may therefore run."""
    specs = [pipeline.model, pipeline.teacher]
    for stage in pipeline.stages:
        for variant in variants(stage):
            specs.extend([getattr(variant, "student", None), *getattr(variant, "peers", ())])
    return tuple(name for spec in specs if spec is not None for name in spec.trusted)


def broken_rules(pipeline: Pipeline) -> list[tuple[str, str]]:
    """Every rule of order that the pipeline breaks, as (key path, reason and remedy)."""
    stages = list(enumerate(pipeline.stages))
    references = list(enumerate(pipeline.references))
    if not pipeline.model.towers:
        return [*_only_for_towers(pipeline), *_broken(pipeline.model, pipeline.teacher, stages, references)]
    broken = _broken_towers(pipeline)
    for name, model in pipeline.model.towers.items():
        teacher = None if pipeline.teacher is None else pipeline.teacher.towers.get(name)
        found = _broken(
            model,
            None if teacher is None else TeacherSpec(**dict(teacher)),
            _numbered_of(stages, name),
            _numbered_of(references, name),
        )
        broken += [(path, f"{name} tower: {message}") for path, message in found]
    return broken


def _numbered_of(stages: Sequence[tuple[int, Stage]], name: str) -> list[tuple[int, Stage]]:
    """What is done to one tower, with its place in the whole."""
    return [(at, one.towers[name]) for at, one in stages if isinstance(one, EachTower) and name in one.towers]


def _only_for_towers(pipeline: Pipeline) -> list[tuple[str, str]]:
    reason = "the model is one network; give `model: {image: ..., text: ...}`, or leave it out"
    broken = [("freeze", reason)] if pipeline.freeze else []
    for index, stage in enumerate(pipeline.stages):
        students = [getattr(one, "student", None) for one in variants(stage)]
        transfers = any(getattr(one, "transfer", None) for one in variants(stage))
        if isinstance(stage, EachTower) or transfers or any(one is not None and one.towers for one in students):
            broken.append((f"stages[{index}].{stage.kind}", f"this is for one of two towers, but {reason}"))
    return broken


def _broken_towers(pipeline: Pipeline) -> list[tuple[str, str]]:
    """What a model of two towers cannot do."""
    broken = []
    if set(pipeline.model.towers) != set(TOWERS):
        missing = next(name for name in TOWERS if name not in pipeline.model.towers)
        broken.append(("model", f"there is no `{missing}` tower; images and texts need both"))
    teacher = pipeline.teacher
    if teacher is not None and set(teacher.towers) != set(TOWERS):
        broken.append(("teacher", "of two towers there must be two teachers; give `teacher: {image: ..., text: ...}`"))
    if set(TOWERS) <= set(pipeline.freeze):
        broken.append(("freeze", "both towers are frozen, so nothing would be done; leave one of them out"))
    for index, stage in enumerate(pipeline.stages):
        path = f"stages[{index}].{stage.kind}"
        if stage.kind == "mutual":
            broken.append((path, "`mutual` is for one network; distil the towers instead"))
        if stage.kind == "train" and len(getattr(stage, "towers", ())) > 1:
            broken.append(
                (path, "`train` brings one tower into the space of the other, which stays; write "
                       "`- image: {train: ...}`, or `freeze: text`")
            )  # fmt: skip
        if any(hasattr(one, "variants") for one in getattr(stage, "inside", ())):
            broken.append((path, "`tune` is for one network; give one value"))
        if any(getattr(one, "mode", None) == "auto" for one in variants(stage)):
            broken.append((path, "`mode: auto` is for one network; give `ptq` or `qat`"))
    return broken


def _broken(
    model: ModelSpec,
    teacher: TeacherSpec | None,
    stages: Sequence[tuple[int, Stage]],
    references: Sequence[tuple[int, Stage]],
) -> list[tuple[str, str]]:
    """The rules of one network; stages come with their place in the pipeline."""
    untrained = () if teacher is None else teacher.untrained("teacher")
    reason = "this network has no weights, so nothing can be learned from it; give `weights` or a `checkpoint`"
    broken = [(path, reason) for path in untrained]
    trained = model.has_weights
    before: list[str] = []
    for index, stage in stages:
        path = f"stages[{index}].{stage.kind}"
        if "quantize" in before:
            reason = (
                "float training would undo the integer weights" if stage.kind != "quantize" else "it is int8 already"
            )
            broken.append((path, f"nothing may follow `quantize`: {reason}; move `quantize` to the end"))
        if stage.kind == "mutual":
            if "prune" in before:
                broken.append((path, "its peers start anew, so the pruning before it would be lost; put it first"))
            trained = True
        elif stage.kind == "distill":
            starts_anew = any(getattr(one, "student", None) is not None for one in variants(stage))
            if starts_anew and "prune" in before:
                broken.append(
                    (path, "`student` starts a new network, so the pruning before it would be lost; "
                           "distil first, or leave `student` out to train the pruned network")
                )  # fmt: skip
            if teacher is None and not model.has_weights and not {"train", "mutual"} & set(before):
                broken.append(
                    (path, "there is no trained teacher: `model` has no weights; give `teacher`, "
                           "weights for `model`, or a `train` stage before")
                )  # fmt: skip
            trained = True
        elif stage.kind == "train":
            trained = True
        elif not trained:
            broken.append(
                (path, "the network has not been trained yet; give `model` weights, or put `train` or `distill` first")
            )
        before.append(stage.kind)
    if model.onnx is not None:
        broken += _not_for_graphs("stages", stages) + _not_for_graphs("references", references)
    broken += _graphs_as_students(stages)
    for index, stage in references:
        path = f"references[{index}].{stage.kind}"
        if not model.has_weights:
            broken.append((path, "a reference starts from `model`, which has no weights; give it weights"))
    return broken


def _not_for_graphs(place: str, stages: Sequence[tuple[int, Stage]]) -> list[tuple[str, str]]:
    """The stages that an ONNX file as `model` rules out."""
    broken = []
    for index, stage in stages:
        path = f"{place}[{index}].{stage.kind}"
        if stage.kind != "quantize":
            broken.append(
                (path, "`model` is an ONNX file, which has no weights that can be trained or cut; `quantize` it alone, "
                       "or give it as `teacher` and the network itself as `model`")
            )  # fmt: skip
            continue
        for variant in variants(stage):
            reason = _not_for_graph(variant)
            if reason and (path, reason) not in broken:
                broken.append((path, reason))
    return broken


def _not_for_graph(stage: Stage) -> str | None:
    mode, backend = getattr(stage, "mode", "ptq"), getattr(stage, "backend", "own")
    if mode != "ptq":
        return (f"`mode: {mode}` trains, and `model` is an ONNX file; leave `mode` out, with `backend: onnxruntime` or "
                "`dynamic`")  # fmt: skip
    if backend not in ON_GRAPHS:
        return (f"`backend: {backend}` works on a torch network, and `model` is an ONNX file; give `backend: "
                "onnxruntime` or `dynamic`")  # fmt: skip
    if getattr(stage, "calibration_seeds", 1) > 1:
        return ("`calibration_seeds` calibrates fake quantization, which needs a torch network, and `model` is an ONNX "
                "file; leave it out")  # fmt: skip
    return None


def _graphs_as_students(stages: Sequence[tuple[int, Stage]]) -> list[tuple[str, str]]:
    """Networks to be trained that are given as ONNX files."""
    reason = "an ONNX file cannot be trained; give a network, and the file as `teacher`"
    broken = []
    for index, stage in stages:
        for variant in variants(stage):
            given = [("student", getattr(variant, "student", None))]
            given += [(f"peers[{number}]", peer) for number, peer in enumerate(getattr(variant, "peers", ()))]
            for name, spec in given:
                found = (f"stages[{index}].{stage.kind}.{name}.onnx", reason)
                if spec is not None and spec.onnx is not None and found not in broken:
                    broken.append(found)
    return broken
