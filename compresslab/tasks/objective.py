"""What is asked of a network's outputs: how many there are, what they mean, and the loss against the targets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

    from compresslab.tasks.anchors import Anchors


@dataclass(frozen=True)
class Classes:
    """One of several labels. Outputs are a logit each [b, labels], targets are indices [b]."""

    labels: tuple[str, ...]
    kind: ClassVar[Literal["classification"]] = "classification"

    @property
    def outputs(self) -> int:
        """Columns of the network's output."""
        return len(self.labels)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy of logits [b, labels] to indices [b], averaged; in float32 also under autocast."""
        from torch.nn import functional

        return functional.cross_entropy(outputs.float(), targets)


@dataclass(frozen=True)
class Score:
    """One number. Outputs are [b, 1] and targets [b], both in the units that the data has.

    Args:
        target: What is predicted.
        center: Mean of the training targets.
        scale: Their standard deviation. The loss divides by it, so that learning rates and weights mean the same for
            targets of any size.
        delta: Where the loss turns from quadratic to linear, in units of `scale`.
    """

    target: str
    center: float
    scale: float
    delta: float = 1.0
    kind: ClassVar[Literal["regression"]] = "regression"

    @property
    def outputs(self) -> int:
        """Columns of the network's output."""
        return 1

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Huber's loss of outputs [b, 1] to targets [b], standardised and averaged; in float32 also under autocast.

        Source: Huber, "Robust Estimation of a Location Parameter", Annals of Mathematical Statistics 35, 1964.
        """
        from torch.nn import functional

        # Of [b, 1] and [b] torch would make [b, b].
        difference = (outputs.float().squeeze(1) - targets.float()) / self.scale
        return functional.huber_loss(difference, difference.new_zeros(()).expand_as(difference), delta=self.delta)


@dataclass(frozen=True)
class Embeddings:
    """A direction for each sample. Outputs are [b, width], compared by cosine; networks of a task may differ in width.

    Targets are group numbers [b], or there are none, and such samples can only be distilled: a document of group
    g >= 0 has target g, a query of it -(g + 1), and all documents of its group are right for a query.

    Args:
        width: Of the embedding of a new network that is told nothing else.
        temperature: Of the softmax over the cosines of a batch.
        one_space: Whether the space is given, as it is for one of two towers: all networks then have this width, and
            targets are the numbers of groups alone.
        anchors: The other tower's embeddings of the training samples, where they are known.
    """

    width: int
    temperature: float = 0.05
    one_space: bool = False
    anchors: Anchors | None = field(default=None, compare=False, repr=False)
    kind: ClassVar[Literal["embedding"]] = "embedding"

    @property
    def outputs(self) -> int:
        """Columns of the output of a network that is told nothing else."""
        return self.width

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The in-batch contrastive loss of outputs [b, any width] with groups [b]; see `losses.grouped_contrastive`.

        Of one of two towers that to all anchors; see `losses.anchored_contrastive`.
        """
        from compresslab.losses import anchored_contrastive, grouped_contrastive

        if self.anchors is not None:
            groups = self.anchors.groups.to(outputs.device)
            return anchored_contrastive(outputs, targets, self.anchors.embeddings, groups, 1.0 / self.temperature)

        return grouped_contrastive(outputs, targets, 1.0 / self.temperature)


Objective: TypeAlias = Classes | Score | Embeddings
