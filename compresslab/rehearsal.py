"""Every loss of a pipeline computed once, of the networks as they will be or nearly, before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from compresslab.candidate import OnnxModel, TorchModel
from compresslab.distillation.preflight import require_trainable
from compresslab.errors import BadInput, ConfigError, ModelError, Problem
from compresslab.pipeline import variants
from compresslab.preflight import fitting
from compresslab.pruning import find_groups
from compresslab.quantization import QuantizerSettings, prepare
from compresslab.stages import Distill, Mutual, Prune, Quantize, Train
from compresslab.students import rehearse_student
from compresslab.teacher import OUTPUT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from compresslab.distillation import Recipe
    from compresslab.models import ModelSpec
    from compresslab.pipeline import Pipeline
    from compresslab.stage import Stage
    from compresslab.students import StudentSpec
    from compresslab.tasks import Task
    from compresslab.teacher import Teacher
    from compresslab.teachers import Teachers


def rehearse(pipeline: Pipeline, baseline: TorchModel | OnnxModel, teachers: Teachers, task: Task) -> None:
    """Tries the losses of all stages and references on a few training samples.

    Args:
        pipeline: Its layers must be there, and its losses fit networks, teacher and task.
        baseline: The network of `model`; left as it was.
        teachers: Of the pipeline. What a `train` stage will have made is tried as it is before.
        task: The data.

    Raises:
        ConfigError: With the path of the stage, or of the training inside it, and what is wrong.
    """
    if isinstance(baseline, OnnxModel):
        _require_quantizable(pipeline, baseline)
        return
    _Rehearsal(pipeline, teachers, task, baseline).play("stages", pipeline.stages)
    for index, stage in enumerate(pipeline.references):
        _Rehearsal(pipeline, teachers, task, baseline).play("references", (stage,), index)


def _require_quantizable(pipeline: Pipeline, baseline: OnnxModel) -> None:
    """Refuses a quantizer that is not for the graph; of several that are tried, one must be left."""
    for place, stages in (("stages", pipeline.stages), ("references", pipeline.references)):
        for index, stage in enumerate(stages):
            refused = []
            for variant in variants(stage):
                assert isinstance(variant, Quantize), "the rules of order see to it"
                try:
                    variant.require_graph(baseline.path)
                except BadInput as error:
                    refused.append(str(error))
            if len(refused) == len(variants(stage)):
                raise ConfigError([Problem(pipeline.name, None, f"{place}[{index}].{stage.kind}", refused[0])])


class _Rehearsal:
    """What the next stage starts from, and learns from; None where that depends on what will be measured."""

    def __init__(self, pipeline: Pipeline, teachers: Teachers, task: Task, baseline: TorchModel) -> None:
        self._name, self._seed, self._teachers, self._task = pipeline.name, pipeline.seed, teachers, task
        self._network: TorchModel | None = baseline
        self._teacher: Teacher | None = teachers.given

    def play(self, place: str, stages: Sequence[Stage], first: int = 0) -> None:
        """Tries one stage after the other."""
        for index, stage in enumerate(stages, first):
            self._require_backends(stage, f"{place}[{index}].{stage.kind}.backend")
            for variant in variants(stage):
                path = f"{place}[{index}].{stage.kind}"
                try:
                    for part, recipe, module in self._trainings(variant):
                        path = f"{place}[{index}].{stage.kind}{part}"
                        if self._teacher is None or getattr(variant, "control", False):
                            recipe.terms(self._task, taught=False)
                        if self._teacher is not None:
                            require_trainable(recipe, module, self._teacher, self._seen)
                except BadInput as error:
                    raise ConfigError([Problem(self._name, None, path, str(error))]) from error
            if stage.kind in ("train", "mutual") and self._teachers.given is None:
                self._teacher = None if self._network is None else self._teachers.of(self._network)

    def _trainings(self, stage: Stage) -> Iterator[tuple[str, Recipe, nn.Module]]:
        """Where in the stage a recipe is, the recipe, and the network that is trained by it."""
        if isinstance(stage, Mutual):
            built = [self._fitting(f"peers[{index}]", peer) for index, peer in enumerate(stage.peers)]
            self._network = built[0] if len({peer.model_dump_json() for peer in stage.peers}) == 1 else None
            stage.require_transfer(self._task)
            if stage.teacher_weight and self._teacher is not None:
                self._teacher.require(stage.mixup, [OUTPUT])
            return
        if isinstance(stage, Distill) and stage.student is not None:
            self._network = self._student(stage.student)
        if self._network is None:
            return
        module = self._network.module
        if isinstance(stage, Train):
            stage.recipe.terms(self._task, taught=False)
        elif isinstance(stage, Distill):
            yield "", stage.recipe, module
        elif isinstance(stage, Prune):
            find_groups(module, torch.from_numpy(self._seen.first("calibration")))
            if stage.recover is not None:
                yield ".recover", stage.recover, module  # narrower layers keep their names and axes
        elif isinstance(stage, Quantize) and stage.mode != "ptq" and stage.backend == "own":
            reads_layers = any(entry.term.layers for entry in stage.qat.losses or ())
            yield ".qat", stage.qat, self._prepared(stage, module) if reads_layers else module

    def _require_backends(self, stage: Stage, path: str) -> None:
        """Refuses a quantizer that is not for the network; of several that are tried, one must be left."""
        refused = 0
        for variant in variants(stage):
            if not isinstance(variant, Quantize) or self._network is None:
                return
            example = torch.from_numpy(self._seen.first("calibration"))
            try:
                variant.require_backend(self._network.module, example)
            except BadInput as error:
                refused += 1
                if refused == len(variants(stage)) or variant.backend == "neural_compressor":
                    raise ConfigError([Problem(self._name, None, path, str(error))]) from error

    @property
    def _seen(self) -> Task:
        """The task as the network reads it."""
        return self._task if self._network is None else self._task.read_by(self._network.preprocessing)

    def _student(self, spec: StudentSpec) -> TorchModel:
        if not spec.derived:
            return self._fitting("student", spec)
        try:
            return rehearse_student(spec, self._teacher, self._task)
        except ModelError as error:
            raise ModelError(f"student: {error}") from error

    def _fitting(self, what: str, spec: ModelSpec) -> TorchModel:
        return fitting(what, spec, self._task, self._seed)

    def _prepared(self, stage: Quantize, module: nn.Module) -> nn.Module:
        """The network as `qat` trains it: traced, so that a layer runs only if the trace calls it."""
        quantizer = QuantizerSettings(**stage.model_dump(include=set(QuantizerSettings.model_fields)))
        return prepare(module, torch.from_numpy(self._seen.first("calibration")), quantizer)
