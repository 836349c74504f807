"""A TeacherSpec -> the Teacher it means."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from compresslab.measure.metrics import METRICS
from compresslab.models import architecture
from compresslab.teacher.answers import OUTPUT, Question, Teacher
from compresslab.teacher.arrays import ArrayTeacher
from compresslab.teacher.network import NetworkTeacher
from compresslab.teacher.several import AverageTeacher

if TYPE_CHECKING:
    from compresslab.candidate import TorchModel
    from compresslab.models import ModelSpec
    from compresslab.progress import Progress
    from compresslab.store import Store
    from compresslab.tasks import Task
    from compresslab.teacher.spec import TeacherSpec


def open_teacher(
    spec: TeacherSpec,
    build: Callable[[ModelSpec], TorchModel],
    task: Task,
    store: Store,
    device: str,
    progress: Progress,
) -> Teacher:
    """The teacher of a pipeline.

    Args:
        spec: What the pipeline says.
        build: Builds a network of a spec.
        task: Whose samples it answers for.
        store: Where answers are kept.
        device: Where networks run.
        progress: Told which of several is the best.

    Raises:
        ModelError: A network cannot be built, or does not fit the task.
        DataError: Predictions do not fit the data.
    """

    def opened(one: TeacherSpec) -> Teacher:
        return open_teacher(one, build, task, store, device, progress)

    if spec.predictions is not None:
        return ArrayTeacher.read(Path(spec.predictions), task)
    if spec.average is not None:
        return AverageTeacher(tuple(opened(one) for one in spec.average), tuple(one.weight for one in spec.average))
    if spec.best_of is not None:
        return _best([opened(one) for one in spec.best_of], task, progress)
    model = build(spec)
    seen = task.read_by(model.preprocessing)
    return NetworkTeacher(model.module, architecture.digest(model), seen, store, device, builder=model.builder)


def _best(teachers: list[Teacher], task: Task, progress: Progress) -> Teacher:
    """The teacher with the highest metric on validation; of equals the first."""
    split = task.splits["validation"]
    assert split.targets is not None, "validation is labelled"
    rows = np.arange(len(split.targets))
    metric = METRICS[task.metric]
    answers = [teacher.exact().answers(Question("validation", None), progress) for teacher in teachers]
    scores = [float(metric.value(one.of(rows)[OUTPUT], split.targets)) for one in answers]
    best = int(np.argmax(scores))
    told = ", ".join(f"{score:.4f}" for score in scores)
    progress.note(f"teacher: number {best + 1} of {len(teachers)} is the best on validation ({told})")
    return teachers[best]
