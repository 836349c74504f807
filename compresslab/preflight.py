"""What a pipeline is refused for before anything is trained: once its data and networks are there, all is tried."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from compresslab.distillation.preflight import require_trainable
from compresslab.errors import ArtifactError, BadInput, ConfigError, ModelError, Problem
from compresslab.measure.budget import unmeasured
from compresslab.models.check import require_fit, require_same_task
from compresslab.pipeline import variants
from compresslab.stages import Distill, Mutual, Prune, Quantize
from compresslab.teacher import OUTPUT

if TYPE_CHECKING:
    from torch import nn

    from compresslab.candidate import TorchModel
    from compresslab.models import ModelSpec
    from compresslab.pipeline import Pipeline
    from compresslab.stage import Stage
    from compresslab.tasks import Task
    from compresslab.teacher import Teacher


def built(spec: ModelSpec, task: Task, seed: int) -> TorchModel:
    """The network of a spec; what it draws comes from `seed` alone.

    Raises:
        ModelError: As `ModelSpec.build`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return spec.build(task.signature)


def fitting(what: str, spec: ModelSpec, task: Task, seed: int) -> TorchModel:
    """The network of a spec, held against the task; `what` is what to call it in errors.

    Raises:
        ModelError: It cannot be built, was trained for other labels or inputs, or does not run on the task's.
        ArtifactError: The manifest beside a checkpoint is broken.
    """
    try:
        model = built(spec, task, seed)
        if spec.checkpoint is not None:
            require_same_task(Path(spec.checkpoint), task.labels, task.preprocessing)
        require_fit(model, task.batch("validation", np.arange(2), None), task.outputs)
    except (ModelError, ArtifactError) as error:
        raise type(error)(f"{what}: {error}") from error
    return model


def require_measured(pipeline: Pipeline, task: Task) -> None:
    """Refuses a budget on what will not be measured.

    Raises:
        ConfigError: With every such limit.
    """
    if pipeline.budget is None:
        return
    broken = unmeasured(pipeline.budget, (task.benchmark_metric,), len(pipeline.bench.points))
    if broken:
        raise ConfigError([Problem(pipeline.name, None, f"budget.{key}", message) for key, message in broken])


def require_trainable_stages(pipeline: Pipeline, model: nn.Module, teacher: Teacher | None, task: Task) -> None:
    """Builds every student and computes every loss once, of the networks as they will be or nearly.

    Args:
        pipeline: Whose stages.
        model: The network they start from.
        teacher: Whom they learn from; None where that is still to be trained.
        task: The data.

    Raises:
        ConfigError: A student does not fit the task, or a loss the networks; it names the stage.
    """
    current: nn.Module | None = model
    for index, stage in enumerate(pipeline.stages):
        for variant in variants(stage):
            try:
                current = _tried(variant, current, teacher, task, pipeline.seed)
            except BadInput as error:
                path = f"stages[{index}].{stage.kind}"
                raise ConfigError([Problem(pipeline.name, None, path, str(error))]) from error


def _tried(stage: Stage, current: nn.Module | None, teacher: Teacher | None, task: Task, seed: int) -> nn.Module | None:
    """The network that a stage leaves, None where that is not known before."""
    if isinstance(stage, Mutual):
        for index, peer in enumerate(stage.peers):
            fitting(f"peers[{index}]", peer, task, seed)
        if teacher is not None and stage.teacher_weight > 0:
            teacher.require(stage.mixup, [OUTPUT])
        return None
    if isinstance(stage, Distill) and stage.student is not None:
        current = fitting("student", stage.student, task, seed).module
    recipe = stage.recipe if isinstance(stage, Distill) else stage.recover if isinstance(stage, Prune) else None
    if recipe is not None and current is not None:
        require_trainable(recipe, current, teacher, task)
    if isinstance(stage, Quantize) and stage.mode != "ptq":
        # Its network is another one by then, so that its layers cannot be looked up here.
        terms = stage.qat.terms(task, taught=teacher is not None)
        if teacher is not None and any(term.reads_teacher for term in terms):
            teacher.require(stage.qat.mixup, [OUTPUT])
    return current
