"""The terms a loss is made of, as a YAML names them: each is settings and the function of `losses` it stands for."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor

from compresslab import losses
from compresslab.distillation.embedding_terms import Embedding, FeatureMse, MarginMse, Similarity, SimilarityKl
from compresslab.distillation.seen import OfOutputs, Seen, Temperature, Term, Weight
from compresslab.one_of import the_one
from compresslab.settings import Settings

__all__ = ["Embedding", "Huber", "Kd", "LossTerm", "MarginMse", "Seen", "Similarity", "TaskTerm", "Term"]


class TaskTerm(OfOutputs):
    """The task's own loss, on labelled samples."""

    reads_teacher: ClassVar[bool] = False
    reads_classes: ClassVar[bool] = False

    def value(self, seen: Seen) -> Tensor:
        """Mean over the labelled samples; 0 where the batch has none."""
        return seen.on_labelled(lambda targets: seen.task_loss(seen.of_labelled(seen.outputs), targets))


class Kd(OfOutputs):
    """Soft targets (Hinton et al. 2015)."""

    temperature: Temperature = 4.0
    """T of both softmaxes."""

    def value(self, seen: Seen) -> Tensor:
        """See `losses.kd`."""
        return losses.kd(seen.outputs, seen.answers, self.temperature)


class StandardisedKd(OfOutputs):
    """Soft targets of standardised logits, so that the student need not match the teacher's scale."""

    temperature: Temperature = 2.0
    """T of both softmaxes, in deviations of the logits."""

    def value(self, seen: Seen) -> Tensor:
        """See `losses.standardised_kd`."""
        return losses.standardised_kd(seen.outputs, seen.answers, self.temperature)


class Dkd(OfOutputs):
    """Decoupled distillation: the target class and the others, weighted apart."""

    reads_labels: ClassVar[bool] = True
    temperature: Temperature = 4.0
    """T of both softmaxes."""
    target_weight: Weight = 1.0
    """Of the part about the target class."""
    other_weight: Weight = 2.0
    """Of the part about the other classes among themselves."""

    def value(self, seen: Seen) -> Tensor:
        """See `losses.dkd`, on labelled samples."""
        ours, theirs = seen.of_labelled(seen.outputs), seen.of_labelled(seen.answers)
        return seen.on_labelled(
            lambda targets: losses.dkd(ours, theirs, targets, self.temperature, self.target_weight, self.other_weight)
        )


class Nkd(OfOutputs):
    """Normalised distillation: the teacher's belief in the target class, and the other classes among themselves."""

    reads_labels: ClassVar[bool] = True
    temperature: Temperature = 1.0
    """T of the part about the other classes."""
    other_weight: Weight = 1.5
    """Of the part about the other classes."""

    def value(self, seen: Seen) -> Tensor:
        """See `losses.nkd`, on labelled samples."""
        ours, theirs = seen.of_labelled(seen.outputs), seen.of_labelled(seen.answers)
        return seen.on_labelled(lambda targets: losses.nkd(ours, theirs, targets, self.temperature, self.other_weight))


class Dist(OfOutputs):
    """Correlation of predictions, within samples and within classes."""

    temperature: Temperature = 1.0
    """T of both softmaxes."""
    inter_weight: Weight = 2.0
    """Of the correlation over the classes of a sample."""
    intra_weight: Weight = 2.0
    """Of the correlation over the samples of a class."""

    def value(self, seen: Seen) -> Tensor:
        """See `losses.dist`."""
        return losses.dist(seen.outputs, seen.answers, self.temperature, self.inter_weight, self.intra_weight)


class HardLabel(OfOutputs):
    """Cross-entropy to the teacher's first choice."""

    def value(self, seen: Seen) -> Tensor:
        """See `losses.hard_label`."""
        return losses.hard_label(seen.outputs, seen.answers)


class Huber(OfOutputs):
    """The teacher's continuous outputs, in deviations of the targets."""

    reads_classes: ClassVar[bool] = False
    delta: Annotated[float, Field(gt=0)] = 1.0
    """Where the square becomes a line, in deviations."""

    def value(self, seen: Seen) -> Tensor:
        """See `losses.huber`."""
        return losses.huber(seen.outputs, seen.answers, seen.scale, self.delta)


class _OfLayers(OfOutputs):
    """A term between the features of two layers."""

    reads_classes: ClassVar[bool] = False
    student: str
    """Name of the student's layer, as in `named_modules()`."""
    teacher: str
    """Name of the teacher's layer."""

    @property
    def layers(self) -> tuple[tuple[str, str], ...]:
        """The one pair."""
        return ((self.student, self.teacher),)


class Hint(_OfLayers):
    """Features after a learned projection (FitNets)."""

    projected: ClassVar[bool] = True

    def value(self, seen: Seen) -> Tensor:
        """See `losses.hint`."""
        return losses.hint(seen.features[0], seen.teacher_features[0])


class Attention(_OfLayers):
    """Where in the image the features are strong (attention transfer)."""

    def value(self, seen: Seen) -> Tensor:
        """See `losses.attention_transfer`."""
        return losses.attention_transfer(seen.features[0], seen.teacher_features[0])


class Rkd(_OfLayers):
    """Distances and angles between the samples of a batch (relational distillation)."""

    distance_weight: Weight = 1.0
    """Of the distances."""
    angle_weight: Weight = 2.0
    """Of the angles."""

    def value(self, seen: Seen) -> Tensor:
        """See `losses.rkd_distance` and `losses.rkd_angle`, on features flattened to one row a sample."""
        student, teacher = seen.features[0].flatten(1), seen.teacher_features[0].flatten(1)
        return self.distance_weight * losses.rkd_distance(student, teacher) + self.angle_weight * losses.rkd_angle(
            student, teacher
        )


class HiddenStates(Settings):
    """Hidden states of transformer layers, each after a learned projection (TinyBERT); of networks that read images."""

    reads_teacher: ClassVar[bool] = True
    reads_classes: ClassVar[bool] = False
    reads_groups: ClassVar[bool] = False
    reads_labels: ClassVar[bool] = False
    projected: ClassVar[bool] = True
    reduced: ClassVar[bool] = False
    weight: Weight = 1.0
    """What the term is multiplied by."""
    student: Annotated[tuple[str, ...], Field(strict=False, min_length=1)]
    """Names of the student's layers."""
    teacher: Annotated[tuple[str, ...], Field(strict=False, min_length=1)]
    """Names of the teacher's layers, one for each of the student's."""

    @model_validator(mode="after")
    def _check_pairs(self) -> HiddenStates:
        if len(self.student) != len(self.teacher):
            raise ValueError(
                f"there must be one teacher layer for each of the student's, but got {len(self.student)} and "
                f"{len(self.teacher)}"
            )
        return self

    @property
    def layers(self) -> tuple[tuple[str, str], ...]:
        """The pairs."""
        return tuple(zip(self.student, self.teacher, strict=True))

    def value(self, seen: Seen) -> Tensor:
        """See `losses.hidden_states`; all tokens count, as those of images do."""
        tokens = torch.ones(seen.features[0].shape[:2], dtype=torch.bool, device=seen.features[0].device)
        return losses.hidden_states(seen.features, seen.teacher_features, tokens)


class LossTerm(Settings):
    """A term of the loss: its name, and its settings."""

    task: TaskTerm | None = None
    """The task's own loss, on labelled samples."""
    kd: Kd | None = None
    """Soft targets (Hinton et al. 2015)."""
    standardised_kd: StandardisedKd | None = None
    """Soft targets of standardised logits."""
    dkd: Dkd | None = None
    """Decoupled distillation."""
    nkd: Nkd | None = None
    """Normalised distillation."""
    dist: Dist | None = None
    """Correlation of predictions."""
    hard_label: HardLabel | None = None
    """Cross-entropy to the teacher's first choice."""
    huber: Huber | None = None
    """The teacher's continuous outputs."""
    hint: Hint | None = None
    """Features after a learned projection."""
    attention: Attention | None = None
    """Where in the image the features are strong."""
    rkd: Rkd | None = None
    """Distances and angles between samples."""
    similarity: Similarity | None = None
    """Which samples of a batch are alike."""
    embedding: Embedding | None = None
    """Embedding regression."""
    margin_mse: MarginMse | None = None
    """How much nearer a query is to its document than to another one."""
    feature_mse: FeatureMse | None = None
    """Embeddings of length 1 against the teacher's."""
    similarity_kl: SimilarityKl | None = None
    """Between two towers: which of the other's samples are near."""
    hidden_states: HiddenStates | None = None
    """Hidden states of transformer layers."""

    @model_validator(mode="after")
    def _check_one_term(self) -> LossTerm:
        the_one(self, tuple(LossTerm.model_fields))
        return self

    @property
    def name(self) -> str:
        """Which term it is."""
        return the_one(self, tuple(LossTerm.model_fields))

    @property
    def term(self) -> Term:
        """The settings that were given."""
        term: Term = getattr(self, self.name)
        return term
