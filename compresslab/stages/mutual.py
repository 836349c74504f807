"""mutual: several students learn together from scratch, each also from the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from compresslab.candidate import Candidate
from compresslab.distillation import validation_score
from compresslab.distillation.feed import Feed
from compresslab.distillation.learner import labelled_weight
from compresslab.distillation.sampling import Sampling
from compresslab.errors import ModelError
from compresslab.losses import huber, kd, similarity_kl
from compresslab.models import ModelSpec
from compresslab.tasks.reading import reading_as
from compresslab.teacher import OUTPUT
from compresslab.training import Batch, fit
from compresslab.world import everywhere

if TYPE_CHECKING:
    from compresslab.stage import Context
    from compresslab.tasks import Task

# Of the similarities between embeddings; divided by it, the gradient is that of the distributions.
_SIMILARITY = 0.1


class Mutual(Sampling):
    """Trains several new networks together: each learns from the labels and from the others' present answers.

    Two networks of one shape teach each other (Zhang et al., "Deep Mutual Learning", CVPR 2018, arXiv 1706.00384); a
    large and a small one are a teacher and a student that are trained together. All peers take their step at once.
    """

    kind: ClassVar[str] = "mutual"
    version: ClassVar[int] = 1

    peers: Annotated[tuple[ModelSpec, ...], Field(strict=False, min_length=2)]
    """The networks; all start anew. Each becomes a point of the frontier."""
    temperature: float = Field(1.0, gt=0)
    """T of the soft targets that peers are to each other."""
    peer_weight: float = Field(1.0, ge=0)
    """Weight of T^2 * KL to the other peers, their mean; 0 trains the peers apart. For a regression it is Huber, for
    embeddings the KL of the similarities within a batch."""
    teacher_weight: float = Field(0.0, ge=0)
    """Weight of T^2 * KL (or Huber) to the teacher, where there is one."""
    task_weight: float = Field(1.0, ge=0)
    """Weight of the task's own loss on the labels."""
    keep: Literal["best", "all"] = "best"
    """Which peers go on to the next stage: the best on validation, or all."""

    def apply(self, candidate: Candidate, context: Context) -> tuple[Candidate, ...]:
        """The peers, trained, in their order.

        Raises:
            ModelError: They read texts by several tokenizers.
        """
        # Peers of one shape must not start, and so stay, the same.
        seeds = [context.seed * 1_000_003 + index for index in range(len(self.peers))]
        models = [
            reading_as(spec.build(context.task.signature, seed), context.task)
            for spec, seed in zip(self.peers, seeds, strict=True)
        ]
        if any(model.preprocessing != models[0].preprocessing for model in models):
            raise ModelError("peers see the same inputs, so they must read by one tokenizer; give peers that do")
        context = context.reading(models[0])
        taught = context.teacher is not None and self.teacher_weight > 0
        feed = Feed(context, self, (OUTPUT,) if taught else (), unlabelled=taught or self.peer_weight > 0)
        together = Peers([model.module for model in models])
        history = fit(
            together, feed.batches, feed.steps, _Loss(self, context.task), self,
            seed=context.seed, device=context.device, scratch=context.scratch, progress=context.progress,
            phase=self.kind,
        )  # fmt: skip
        losses = [round(epoch.loss, 6) for epoch in history]
        scores = [validation_score(model.module, context.task) for model in models]
        best = max(range(len(models)), key=scores.__getitem__)  # of equals the first
        decisions = [
            {"peer": index, "loss": losses, "validation": round(score, 6), "best": index == best}
            for index, score in enumerate(scores)
        ]
        return tuple(
            candidate.then(model, context.step(self, decisions[index], attempt=index))
            for index, model in enumerate(models)
        )


class Peers(nn.Module):
    """Networks that see the same inputs; returns the outputs of each."""

    def __init__(self, peers: list[nn.Module]) -> None:
        super().__init__()
        self.peers = nn.ModuleList(peers)

    def forward(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """[b, outputs] of each peer."""
        return tuple(peer(inputs) for peer in self.peers)


class _Loss:
    def __init__(self, settings: Mutual, task: Task) -> None:
        self._settings = settings
        self._task = task

    def __call__(self, peers: nn.Module, batch: Batch) -> Tensor:
        """The sum over the peers, so that each one's gradient is that of its own loss."""
        settings = self._settings
        outputs = [everywhere(one) for one in peers(batch.inputs)]
        whole = batch.gathered()
        targets, labelled, teacher = whole.targets, whole.labelled, whole.teacher.get(OUTPUT)
        weight = settings.task_weight * labelled_weight(labelled, batch.labelled_share)
        terms = []
        for index, own in enumerate(outputs):
            others = [other for place, other in enumerate(outputs) if place != index]
            learned = torch.stack([self._distance(own, other) for other in others]).mean()
            terms.append(settings.peer_weight * learned)
            if teacher is not None:
                terms.append(settings.teacher_weight * self._distance(own, teacher))
            if targets is not None and weight:
                seen = own if labelled is None else own[labelled]
                known = targets if labelled is None else targets[labelled]
                terms.append(weight * self._task.loss(seen, known))
        return torch.stack(terms).sum()

    def _distance(self, own: Tensor, other: Tensor) -> Tensor:
        """Of outputs to another network's, into which no gradient flows."""
        if self._task.labels:
            return kd(own, other, self._settings.temperature)
        if self._task.kind == "embedding":
            return similarity_kl(own, other, _SIMILARITY) / _SIMILARITY
        return huber(own, other, self._task.target_scale, 1.0)
