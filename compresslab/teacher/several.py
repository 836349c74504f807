"""Several teachers that answer with one voice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from compresslab.digest import digest_of
from compresslab.errors import ModelError
from compresslab.teacher.answers import OUTPUT, Answers, Question, Teacher

if TYPE_CHECKING:
    from compresslab.progress import Progress


@dataclass(frozen=True)
class AverageTeacher:
    """The weighted mean of several teachers' outputs; of logits, so that the temperature stays free.

    Averaging logits is taking the geometric mean of the probabilities.

    Args:
        teachers: At least one.
        weights: One each, > 0; they need not sum to 1.
    """

    teachers: tuple[Teacher, ...]
    weights: tuple[float, ...]

    @property
    def digest(self) -> str:
        """Of all teachers and weights."""
        return digest_of(["average", [teacher.digest for teacher in self.teachers], list(self.weights)])

    def answers(self, question: Question, progress: Progress) -> Answers:
        """As `Teacher.answers`."""
        self.require(question.mixup, question.outputs)
        each = [teacher.answers(question, progress) for teacher in self.teachers]
        return _Mean(tuple(each), np.asarray(self.weights, np.float32) / np.float32(sum(self.weights)))

    def exact(self) -> AverageTeacher:
        """As `Teacher.exact`."""
        return replace(self, teachers=tuple(teacher.exact() for teacher in self.teachers))

    def require(self, mixup: float, outputs: Sequence[str]) -> None:
        """As `Teacher.require`.

        Raises:
            ModelError: Features of layers are asked for: layers of several networks have no mean.
        """
        layers = [name for name in outputs if name != OUTPUT]
        if layers:
            raise ModelError(
                f"several teachers have no layer `{layers[0]}` in common; leave out the losses on features, or give "
                "one network as teacher"
            )
        for teacher in self.teachers:
            teacher.require(mixup, outputs)


@dataclass(frozen=True)
class _Mean:
    each: tuple[Answers, ...]
    weights: npt.NDArray[np.float32]

    def of(self, rows: npt.NDArray[np.int64]) -> Mapping[str, npt.NDArray[np.float32]]:
        outputs = np.stack([answers.of(rows)[OUTPUT] for answers in self.each])
        return {OUTPUT: np.tensordot(self.weights, outputs, axes=1)}
