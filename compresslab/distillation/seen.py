"""What a term of a loss is, and what it may read of a batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar, Protocol

from pydantic import Field
from torch import Tensor

from compresslab.settings import Settings

Weight = Annotated[float, Field(ge=0)]
Temperature = Annotated[float, Field(gt=0)]


@dataclass(frozen=True)
class Seen:
    """What a term may read of a batch.

    Args:
        outputs: The student's, [b, outputs].
        teacher: The teacher's for the same samples; None without a teacher. Embeddings of another width are here as the
            term asks for them: their principal components, where it does.
        features: The student's features for each of the term's layers, projected where the term asks for it.
        teacher_features: The teacher's for the same.
        targets: Of the labelled samples, [n] or [n, outputs]; None where there are none in the batch.
        labelled: Which samples these are, bool [b]; None for all.
        task_loss: (outputs, targets) -> scalar.
        scale: The deviation of the targets; 1 for classes.
        others: Of one of two towers, the embeddings of the other [m, width]; None for any other network.
        projected: The student's outputs after the term's projector; None where it has none.
        labelled_weight: What a mean over the labelled samples is multiplied by: 1, unless this is a part of a batch,
            whose labelled samples are fewer or more than its equal share.
    """

    outputs: Tensor
    teacher: Tensor | None
    features: tuple[Tensor, ...]
    teacher_features: tuple[Tensor, ...]
    targets: Tensor | None
    labelled: Tensor | None
    task_loss: Callable[[Tensor, Tensor], Tensor]
    scale: float = 1.0
    labelled_weight: float = 1.0
    projected: Tensor | None = None
    others: Tensor | None = None

    @property
    def answers(self) -> Tensor:
        """The teacher's outputs, which must be there."""
        assert self.teacher is not None, "terms that read the teacher are left out where there is none"
        return self.teacher

    def on_labelled(self, loss: Callable[[Tensor], Tensor]) -> Tensor:
        """The loss of the labelled samples' targets, as it counts in the whole batch; 0 where the batch has none."""
        if self.targets is None or len(self.targets) == 0:
            return self.outputs.float().sum() * 0.0
        return self.labelled_weight * loss(self.targets)

    def of_labelled(self, values: Tensor) -> Tensor:
        """The rows of the labelled samples."""
        return values if self.labelled is None else values[self.labelled]


class Term(Protocol):
    """One part of a loss. `weight` multiplies `value`."""

    @property
    def weight(self) -> float:
        """What the term is multiplied by."""

    @property
    def reads_teacher(self) -> bool:
        """Whether there must be a teacher."""

    @property
    def reads_classes(self) -> bool:
        """Whether the term takes outputs for logits of classes."""

    @property
    def reads_groups(self) -> bool:
        """Whether the term takes targets for groups of queries and documents."""

    @property
    def reads_labels(self) -> bool:
        """Whether the term needs the class of each sample, so that it skips unlabelled ones and refuses mixed ones."""

    @property
    def projected(self) -> bool:
        """Whether the student's features go through a learned projector, which is thrown away after the training.

        Outputs do so only where their width is not the teacher's.
        """

    @property
    def reduced(self) -> bool:
        """Whether the teacher's outputs are brought to the student's width, by their principal components."""

    @property
    def layers(self) -> tuple[tuple[str, str], ...]:
        """The layers whose features it reads: (the student's, the teacher's)."""

    def value(self, seen: Seen) -> Tensor:
        """The term, a scalar, before it is weighted."""


class OfOutputs(Settings):
    """A term between the outputs of student and teacher."""

    reads_teacher: ClassVar[bool] = True
    reads_classes: ClassVar[bool] = True
    reads_groups: ClassVar[bool] = False
    reads_labels: ClassVar[bool] = False
    projected: ClassVar[bool] = False
    reduced: ClassVar[bool] = False
    weight: Weight = 1.0
    """What the term is multiplied by."""

    @property
    def layers(self) -> tuple[tuple[str, str], ...]:
        """None."""
        return ()
