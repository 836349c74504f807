"""Terms between embeddings: the networks' outputs, or the features of two layers."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import model_validator
from torch import Tensor

from compresslab import losses
from compresslab.distillation.seen import OfOutputs, Seen, Temperature


class _OfOutputsOrLayers(OfOutputs):
    """A term between the features of two layers, or between the outputs where none are named."""

    reads_classes: ClassVar[bool] = False
    student: str | None = None
    """Name of the student's layer, as in `named_modules()`; null for its output."""
    teacher: str | None = None
    """Name of the teacher's layer; null for its output."""

    @model_validator(mode="after")
    def _check_both(self) -> _OfOutputsOrLayers:
        if (self.student is None) != (self.teacher is None):
            raise ValueError("give both `student` and `teacher`, the names of two layers, or neither for the outputs")
        return self

    @property
    def layers(self) -> tuple[tuple[str, str], ...]:
        """The one pair; none for the outputs."""
        return () if self.student is None or self.teacher is None else ((self.student, self.teacher),)

    def _both(self, seen: Seen) -> tuple[Tensor, Tensor]:
        """One row a sample, of student and teacher."""
        if self.layers:
            return seen.features[0].flatten(1), seen.teacher_features[0].flatten(1)
        return (seen.outputs if seen.projected is None else seen.projected), seen.answers


class Similarity(_OfOutputsOrLayers):
    """Which samples of a batch are alike: listwise KL over in-batch similarities."""

    temperature: Temperature = 0.1
    """T of the softmax over cosines."""

    def value(self, seen: Seen) -> Tensor:
        """See `losses.similarity_kl`."""
        return losses.similarity_kl(*self._both(seen), self.temperature)


class Embedding(_OfOutputsOrLayers):
    """Embedding regression, after a learned projection where widths differ."""

    projected: ClassVar[bool] = True
    distance: Literal["cosine", "mse"] = "cosine"
    """`cosine` leaves the length free."""
    pca: bool = False
    """Between outputs: regresses on the principal components of the teacher's answers for the training samples, as many
    as the student is wide, instead of projecting the student."""

    @model_validator(mode="after")
    def _check_pca(self) -> Embedding:
        if self.pca and self.layers:
            raise ValueError("`pca` is of the teacher's outputs; leave out `student` and `teacher`, or `pca`")
        return self

    @property
    def reduced(self) -> bool:  # type: ignore[override]  # a setting here, never so elsewhere
        """As `pca` says."""
        return self.pca

    def value(self, seen: Seen) -> Tensor:
        """See `losses.cosine` and `losses.mse`."""
        return (losses.cosine if self.distance == "cosine" else losses.mse)(*self._both(seen))


class MarginMse(OfOutputs):
    """How much nearer a query is to its document than to another one, for every such triple of a batch."""

    reads_classes: ClassVar[bool] = False
    reads_groups: ClassVar[bool] = True
    reads_labels: ClassVar[bool] = True

    def value(self, seen: Seen) -> Tensor:
        """See `losses.grouped_margin_mse`, on labelled samples."""
        ours, theirs = seen.of_labelled(seen.outputs), seen.of_labelled(seen.answers)
        return seen.on_labelled(lambda groups: losses.grouped_margin_mse(ours, theirs, groups))


class FeatureMse(OfOutputs):
    """Embeddings of length 1 against the teacher's (CLIP-KD, which gives it weight 2000)."""

    reads_classes: ClassVar[bool] = False

    def value(self, seen: Seen) -> Tensor:
        """See `losses.direction_mse`."""
        return losses.direction_mse(seen.outputs, seen.answers)


class SimilarityKl(OfOutputs):
    """Which of the other tower's samples are near: KL to the teacher, over its embeddings of them (CLIP-KD)."""

    reads_classes: ClassVar[bool] = False
    temperature: Temperature = 0.05
    """By which cosines are divided."""

    def value(self, seen: Seen) -> Tensor:
        """See `losses.anchored_kl`."""
        if seen.others is None:
            raise ValueError("it is between two towers, and the model is one network; use `similarity`")
        return losses.anchored_kl(seen.outputs, seen.answers, seen.others, 1.0 / self.temperature)
