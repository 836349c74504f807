"""What a pipeline is refused for before anything is trained: once its data and networks are there, all is tried."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from compresslab.data.texts import spelled
from compresslab.errors import ArtifactError, ConfigError, ModelError, Problem, did_you_mean
from compresslab.measure.budget import unmeasured
from compresslab.measure.subject import DATA, EXAMPLE
from compresslab.models.check import (
    require_fit,
    require_same_export,
    require_same_names,
    require_same_task,
    require_vocabulary,
)
from compresslab.models.hf_net import label_names, read_config
from compresslab.models.onnx_net import open_onnx, require_onnx_fit
from compresslab.tasks.reading import reading_as
from compresslab.wheels import local_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from compresslab.candidate import OnnxModel, TorchModel
    from compresslab.models import ModelSpec
    from compresslab.pipeline import Pipeline
    from compresslab.tasks import Task
    from compresslab.tasks.towers_task import TowersTask

_READ_LABELS = ("taylor", "hessian")
"""Criteria of importance that are gradients of the task's loss on the calibration split."""


def fitting(what: str, spec: ModelSpec, task: Task, seed: int) -> TorchModel:
    """The network of a spec, held against the task; `what` is what to call it in errors.

    Raises:
        ModelError: It cannot be built, was trained for other labels or inputs, or does not run on the task's.
        ArtifactError: The manifest beside a checkpoint is broken.
    """
    try:
        model = reading_as(spec.build(task.signature, seed), task)
        seen = task.read_by(model.preprocessing)
        if spec.checkpoint is not None:
            require_same_task(Path(spec.checkpoint), task.labels, seen.preprocessing)
        require_same_names(model, task.labels)
        require_vocabulary(model, seen.preprocessing)
        require_fit(model, seen.first("validation"), task.columns)
    except (ModelError, ArtifactError) as error:
        raise type(error)(f"{what}: {error}") from error
    return model


def fitting_model(what: str, spec: ModelSpec, task: Task, seed: int) -> TorchModel | OnnxModel:
    """As `fitting`, but of an ONNX file the graph, which is held against the task as a network is.

    Raises:
        ModelError: As `fitting`; or the graph takes or gives something else.
        ArtifactError: As `fitting`; or the file is missing, or ONNX Runtime cannot run it.
    """
    if spec.onnx is None:
        return fitting(what, spec, task, seed)
    path = Path(spec.onnx)
    try:
        model = open_onnx(path)
        require_same_export(path, task.labels, task.preprocessing)
        require_onnx_fit(model, task.first("validation"), task.columns)
    except (ModelError, ArtifactError) as error:
        raise type(error)(f"{what}: {error}") from error
    return model


def lost_head(spec: ModelSpec, labels: Sequence[str]) -> str | None:
    """A note where `head: new` leaves out a head that is for these labels already."""
    if spec.head is None or spec.hf is None:
        return None
    there = label_names(read_config(local_folder(spec.hf)))
    if there is None or sorted(map(spelled, there)) != sorted(map(spelled, labels)):
        return None
    return f"`head: new` leaves out the head for these labels that {spec.hf} has; leave `head` out to start from that"


def require_calibration_labels(pipeline: Pipeline, task: Task) -> None:
    """Refuses a stage that reads the labels of the calibration split where its samples were given without.

    Raises:
        ConfigError: With every such stage.
    """
    if task.splits["calibration"].targets is not None:
        return
    remedy = "use `magnitude`"
    if task.splits["train"].targets is not None:
        remedy += ", or leave `calibration_data` out"
    stages = [("stages", index, one) for index, one in enumerate(pipeline.stages)]
    stages += [("references", index, one) for index, one in enumerate(pipeline.references)]
    broken = [
        Problem(
            pipeline.name, None, f"{place}[{index}].{stage.kind}.importance",
            f"`{getattr(stage, 'importance', '')}` asks how the loss would change, and the calibration samples have no "
            f"labels; {remedy}",
        )
        for place, index, stage in stages
        if getattr(stage, "importance", None) in _READ_LABELS
    ]  # fmt: skip
    if broken:
        raise ConfigError(broken)


def require_measured(pipeline: Pipeline, task: Task | TowersTask) -> None:
    """Refuses a budget on what will not be measured, and points of the bench that nothing can be measured with.

    Raises:
        ConfigError: With every such limit or point.
    """
    asked = pipeline.bench.points
    inputs = (EXAMPLE, DATA, *task.sample_sets)
    _require_known(pipeline, "inputs", [point.inputs for point in asked], inputs,
                   "`{}` is nothing that this task can be measured with")  # fmt: skip
    graphs = tuple(pipeline.model.towers) or ("model",)
    _require_known(pipeline, "graph", [point.graph for point in asked], graphs, "there is no graph `{}`")
    if pipeline.model.towers and pipeline.bench.session == "auto":
        message = "is found for one graph, but there are two; give `default`, or the options themselves"
        raise ConfigError([Problem(pipeline.name, None, "bench.session", f"`auto` {message}")])
    if pipeline.budget is None:
        return
    # Of two towers one call of each is a point too, the first.
    points = len(pipeline.bench.points) + bool(pipeline.model.towers)
    broken = unmeasured(pipeline.budget, (task.benchmark_metric,), points, task.benchmark_metrics)
    for name in pipeline.budget.graphs:
        if name not in pipeline.model.towers:
            broken.append((name, "there is no such tower: the model is one network; give the limits without its name"))
    if broken:
        raise ConfigError([Problem(pipeline.name, None, f"budget.{key}", message) for key, message in broken])


def _require_known(pipeline: Pipeline, key: str, given: Sequence[str], known: Sequence[str], told: str) -> None:
    """Refuses what a point of the bench names and is not there; `told` says so of a name."""
    allowed = f"allowed {'are' if len(known) > 1 else 'is'} {', '.join(f'`{name}`' for name in known)}"
    unknown = [
        Problem(
            pipeline.name, None, f"bench.points[{index}].{key}",
            f"{told.format(name)}{did_you_mean(name, known)}; {allowed}",
        )
        for index, name in enumerate(given) if name not in known
    ]  # fmt: skip
    if unknown:
        raise ConfigError(unknown)
