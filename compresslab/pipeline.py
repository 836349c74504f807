"""Pipeline, what a YAML says once it is checked; and the rules of order that make some of them impossible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from compresslab.errors import ConfigError, Problem
from compresslab.measure.bench import BenchSettings
from compresslab.measure.budget import Budget
from compresslab.stage import Stage

if TYPE_CHECKING:
    from compresslab.models import ModelSpec
    from compresslab.tasks import TaskSpec
    from compresslab.teacher import TeacherSpec

Select = Literal["smallest", "fastest", "most_accurate"]
Device = Literal["auto", "cpu", "cuda"]

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
    decided: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", tuple(self.stages))
        object.__setattr__(self, "references", tuple(self.references))
        broken = broken_rules(self)
        if broken:
            raise ConfigError([Problem(self.name, None, path, message) for path, message in broken])


def variants(stage: Stage) -> tuple[Stage, ...]:
    """The stage itself, or those of which a tuned one will choose."""
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
    untrained = () if pipeline.teacher is None else pipeline.teacher.untrained("teacher")
    reason = "this network has no weights, so nothing can be learned from it; give `weights` or a `checkpoint`"
    broken = [(path, reason) for path in untrained]
    trained = pipeline.model.has_weights
    before: list[str] = []
    for index, stage in enumerate(pipeline.stages):
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
            if pipeline.teacher is None and not pipeline.model.has_weights and not {"train", "mutual"} & set(before):
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
    if pipeline.model.onnx is not None:
        broken += _not_for_graphs("stages", pipeline.stages) + _not_for_graphs("references", pipeline.references)
    broken += _graphs_as_students(pipeline)
    for index, stage in enumerate(pipeline.references):
        path = f"references[{index}].{stage.kind}"
        if not pipeline.model.has_weights:
            broken.append((path, "a reference starts from `model`, which has no weights; give it weights"))
    return broken


def _not_for_graphs(place: str, stages: Sequence[Stage]) -> list[tuple[str, str]]:
    """The stages that an ONNX file as `model` rules out."""
    broken = []
    for index, stage in enumerate(stages):
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


def _graphs_as_students(pipeline: Pipeline) -> list[tuple[str, str]]:
    """Networks to be trained that are given as ONNX files."""
    reason = "an ONNX file cannot be trained; give a network, and the file as `teacher`"
    broken = []
    for index, stage in enumerate(pipeline.stages):
        for variant in variants(stage):
            given = [("student", getattr(variant, "student", None))]
            given += [(f"peers[{number}]", peer) for number, peer in enumerate(getattr(variant, "peers", ()))]
            for name, spec in given:
                found = (f"stages[{index}].{stage.kind}.{name}.onnx", reason)
                if spec is not None and spec.onnx is not None and found not in broken:
                    broken.append(found)
    return broken
