"""Whom the stages of a run learn from, and what their results are held against."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from compresslab.models import architecture
from compresslab.teacher import NetworkTeacher, Teacher, open_teacher

if TYPE_CHECKING:
    from compresslab.candidate import TorchModel
    from compresslab.models import ModelSpec
    from compresslab.pipeline import Pipeline
    from compresslab.progress import Progress
    from compresslab.store import Store
    from compresslab.tasks import Task


class Teachers:
    """The teacher of a pipeline: `teacher`, or `model` if it has weights, or what a `train` stage has made.

    Args:
        pipeline: What to do.
        baseline: The network of `model`.
        build: Builds a network of a spec.
        task: The data.
        store: Where answers are kept.
        device: Where networks run.
        progress: Told which of several teachers is the best.

    Raises:
        ModelError: The teacher cannot be built, or does not fit the task.
        DataError: Predictions do not fit the data.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        baseline: TorchModel,
        build: Callable[[ModelSpec], TorchModel],
        task: Task,
        store: Store,
        device: str,
        progress: Progress,
    ) -> None:
        self._task, self._store, self._device = task, store, device
        self.given: Teacher | None = None
        if pipeline.teacher is not None:
            self.given = open_teacher(pipeline.teacher, build, task, store, device, progress)
        elif pipeline.model.has_weights:
            self.given = self.of(baseline)

    def of(self, model: TorchModel) -> NetworkTeacher:
        """A network as teacher."""
        return NetworkTeacher(model.module, architecture.digest(model), self._task, self._store, self._device)
