"""Whom the stages of a run learn from, and what their results are held against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from compresslab.measure.evaluate import Answers
from compresslab.models import architecture
from compresslab.teacher import OUTPUT, NetworkTeacher, Question, Teacher, open_teacher

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
        self._task, self._store, self._device, self._progress = task, store, device, progress
        self._answers: Answers | None = None
        self.given: Teacher | None = None
        if pipeline.teacher is not None:
            self.given = open_teacher(pipeline.teacher, build, task, store, device, progress)
        elif pipeline.model.has_weights:
            self.given = self.of(baseline)

    def of(self, model: TorchModel) -> NetworkTeacher:
        """A network as teacher."""
        task = self._task.read_by(model.preprocessing)
        return NetworkTeacher(
            model.module, architecture.digest(model), task, self._store, self._device, builder=model.builder
        )

    def answers(self, splits: Sequence[str]) -> Answers:
        """What the given teacher answers on these splits, by which one that is no artifact is judged."""
        teacher = self.given
        assert teacher is not None, "a teacher is given"
        if self._answers is None:
            exact = teacher.exact()
            outputs = {}
            for split in splits:
                rows = np.arange(len(self._task.splits[split].inputs))
                outputs[split] = np.asarray(exact.answers(Question(split, None), self._progress).of(rows)[OUTPUT])
            self._answers = Answers(teacher.digest, outputs)
        return self._answers
