"""What a teacher is asked and what it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from pydantic import Field

from compresslab.errors import ModelError
from compresslab.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from compresslab.progress import Progress
    from compresslab.tasks import Task

OUTPUT = "output"
"""The name of the network's own output among a teacher's answers; the others are names of its layers."""


def require_columns(what: str, shape: tuple[int, ...], samples: int, task: Task) -> None:
    """Refuses outputs that are not one row a sample, of as many columns as the task has; embeddings have any number.

    Raises:
        ModelError: They are not.
    """
    if task.columns is None:
        if len(shape) != 2 or shape[0] != samples or shape[1] < 1:
            raise ModelError(
                f"{what} answers with shape {list(shape)}, but an embedding is one row a sample: [{samples}, width]; "
                "pool the tokens of each sample"
            )
    elif shape != (samples, task.columns):
        raise ModelError(
            f"{what} answers with shape {list(shape)}, but the task has {task.columns} labels and needs "
            f"{[samples, task.columns]}; give a teacher that was trained on the same labels"
        )


class Cache(Settings):
    """How a teacher's answers are kept. They are raw logits, so that the temperature stays free."""

    dtype: Literal["float32", "float16"] = "float32"
    """Of what is stored; `float16` halves the space and rounds logits to about three digits."""
    top_k: int | None = Field(None, ge=1)
    """Keeps the largest logits of each sample alone, for label sets of thousands; the others share what is left of
    the probability evenly. Null keeps all."""
    features: Literal["live", "stored"] = "live"
    """Features of layers are large: `live` asks the network in every step, `stored` keeps them, as logits are."""


@dataclass(frozen=True)
class Question:
    """What a teacher is asked about one view of one split.

    A view is one augmented version of a whole split, fixed by its seed and the share of mixup: every sample's
    augmentation derives from (sample, seed), so a stored answer belongs to exactly the pixels that the student sees.
    A cache by sample alone would be wrong as soon as anything is augmented (TinyViT, arXiv 2207.10666, stores the
    augmentation's seed too).

    Args:
        split: Name of the split.
        seed: Of the view's augmentation; None for the samples as they are.
        mixup: As for `Task.batch`.
        outputs: `OUTPUT`, and names of the teacher's layers.
        cache: How answers are kept.
    """

    split: str
    seed: int | None
    mixup: float = 0.0
    outputs: Sequence[str] = (OUTPUT,)
    cache: Cache = field(default_factory=Cache)


class Answers(Protocol):
    """A teacher's answers to one view of one split."""

    def of(self, rows: npt.NDArray[np.int64]) -> Mapping[str, npt.NDArray[np.float32]]:
        """What was asked for, by name, for some rows of the split: float32 [b, ...] each."""


class Teacher(Protocol):
    """Answers questions about a task's samples."""

    @property
    def digest(self) -> str:
        """Identifies the teacher by everything that changes an answer."""

    def exact(self) -> Teacher:
        """The same teacher in full arithmetic, for what is reported of it rather than learned from it."""

    def require(self, mixup: float, outputs: Sequence[str]) -> None:
        """Checks that `answers` could be called so, without answering anything.

        Raises:
            ModelError: The teacher has no such layer.
            DataError: The teacher cannot answer for such a view.
        """

    def answers(self, question: Question, progress: Progress) -> Answers:
        """Answers to one view; `progress` is told of the samples as they are answered.

        Raises:
            ModelError: The answers do not fit the task, are not finite, or the teacher has no such layer.
            DataError: The teacher cannot answer for such a view.
        """
