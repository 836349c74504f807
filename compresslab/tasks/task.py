"""A task: its splits, the loss of one batch, what is measured, and how samples become inputs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from compresslab.data.mixing import mixing
from compresslab.digest import code_digest, digest_of
from compresslab.errors import DataError
from compresslab.measure.groups import groups_of
from compresslab.measure.metric_names import OWN, label_of
from compresslab.models import Signature
from compresslab.tasks.benchmark import Benchmark, content_digest
from compresslab.tasks.objective import Classes, Embeddings, Score
from compresslab.tasks.tokens import Tokens
from compresslab.user_code import source_digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from compresslab.data.augmentation import Augmentation
    from compresslab.data.identity import Ids
    from compresslab.data.ragged import Ragged
    from compresslab.data.splits import Rows
    from compresslab.measure.preprocessing import Preprocessing, Samples
    from compresslab.models.signature import Reads
    from compresslab.tasks.anchors import Anchors
    from compresslab.tasks.objective import Objective

__all__ = ["Split", "Targets", "Task", "content_digest"]

Targets: TypeAlias = npt.NDArray[np.int64] | npt.NDArray[np.float32]

# What turns the splits into inputs and a loss; what made the splits shows in their content.
_CODE = (
    "compresslab.tasks.task", "compresslab.tasks.objective", "compresslab.losses.grouped",
    "compresslab.data.augmentation", "compresslab.data.mixing", "compresslab.measure.preprocessing",
)  # fmt: skip


@dataclass(frozen=True)
class Split:
    """Samples of one part of the data.

    Args:
        name: `train`, `transfer`, `calibration`, `validation` or `test`.
        inputs: uint8 images [n, h, w, c], float32 features [n, d] or strings [n]; memory-mapped when they are many.
        targets: Indices into the task's labels, float32 scores, or numbers of groups (see `Embeddings`) [n]; None where
            there are none.
        ids: The first eight bytes of each sample's SHA-256 [n].
        digest: SHA-256 of the content, in this order, with its targets.
        part: Which part of the source the samples are of: `train`, `validation`, `test`, or, where the user
            gave them, `transfer` and `calibration`.
        rows: Which rows of that part they are, as the source has them [n]: answers that were given as arrays are in
            that order.
        part_size: How many samples that part has, also those in other splits or in none.
    """

    name: str
    inputs: Samples
    targets: Targets | None
    ids: Ids
    digest: str
    part: str
    rows: Rows
    part_size: int


@dataclass(frozen=True)
class Task:
    """What a network is for. Splits are disjoint by content; `transfer` is there only if the user gave such samples.

    `digest` covers everything here that can change a result; `notes` is what the user should know of the data. Only
    images are augmented; of anything else the augmentation is the one that changes nothing. `benchmarks` are measured
    where `test` is, by name, and nothing is chosen by them.
    """

    name: str
    objective: Objective
    splits: Mapping[str, Split]
    preprocessing: Preprocessing
    augmentation: Augmentation
    metric: str
    digest: str
    notes: tuple[str, ...] = ()
    benchmarks: Mapping[str, Benchmark] = field(default_factory=dict)
    tokens: Tokens = field(default_factory=Tokens, compare=False, repr=False)
    """What was tokenised already, for tasks on texts."""

    @classmethod
    def of(
        cls,
        *,
        name: str,
        objective: Objective,
        splits: Mapping[str, Split],
        preprocessing: Preprocessing,
        augmentation: Augmentation,
        metric: str,
        notes: tuple[str, ...],
        benchmarks: Mapping[str, Benchmark] | None = None,
        tokens: Tokens | None = None,
    ) -> Task:
        """The task with its digest."""
        beside = benchmarks or {}
        digest = digest_of(
            {
                "name": name,
                "objective": {"kind": objective.kind, **asdict(objective)},
                "splits": {split: part.digest for split, part in splits.items()},
                "preprocessing": preprocessing.model_dump(mode="json"),
                "augmentation": augmentation.model_dump(mode="json"),
                "metric": metric_digest(metric),
                "benchmarks": {key: [one.metric, one.digest] for key, one in beside.items()},
                "code": code_digest(*_CODE),
            }
        )
        made = cls(name, objective, splits, preprocessing, augmentation, metric, digest, notes, beside)
        return made if tokens is None else replace(made, tokens=tokens)

    def read_by(self, preprocessing: Preprocessing | None) -> Task:
        """The same task as a model sees it that reads by a preprocessing of its own; None is the task's."""
        return self if preprocessing in (None, self.preprocessing) else replace(self, preprocessing=preprocessing)

    @property
    def kind(self) -> Literal["classification", "regression", "embedding"]:
        """What is asked of the outputs."""
        return self.objective.kind

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the outputs of a classification, in order; empty for anything else."""
        return self.objective.labels if isinstance(self.objective, Classes) else ()

    @property
    def target(self) -> str | None:
        """What the one number of a regression is; None for anything else."""
        return self.objective.target if isinstance(self.objective, Score) else None

    @property
    def outputs(self) -> int:
        """Columns of a network's output; where outputs are embeddings, of one that is told nothing else."""
        return self.objective.outputs

    @property
    def any_width(self) -> bool:
        """Whether networks of the task may differ in the columns of their outputs, as embeddings do."""
        return isinstance(self.objective, Embeddings)

    @property
    def columns(self) -> int | None:
        """Columns that every network's output must have; None where any number will do."""
        return None if self.any_width and not self.in_one_space else self.outputs

    @property
    def in_one_space(self) -> bool:
        """Whether this is what one of several towers sees: what it embeds is compared with what others do."""
        return isinstance(self.objective, Embeddings) and self.objective.one_space

    @property
    def anchors(self) -> Anchors | None:
        """The other tower's embeddings, where this is what one of two sees and they are known."""
        return self.objective.anchors if isinstance(self.objective, Embeddings) else None

    @property
    def sample_sets(self) -> Mapping[str, Samples]:
        """Samples that latency may be measured on, by name: `NAME/queries` and `NAME/documents` of each benchmark.

        Those of the validation split are there too, where it has any.
        """
        return {
            f"{name}/{part}": samples
            for name, one in self._searched().items()
            for part, samples in one.sample_sets.items()
        }

    def _searched(self) -> Mapping[str, Benchmark]:
        split = self.splits["validation"]
        if not self.any_width or self.in_one_space or split.targets is None:  # one tower's samples search nothing
            return self.benchmarks
        own = Benchmark(split.inputs, split.targets, self.metric, split.ids, split.digest)
        return {"validation": own, **self.benchmarks}

    @property
    def signature(self) -> Signature:
        """What a network must read and answer to be one of this task's."""
        how = self.preprocessing
        reads: Reads = "images"
        if how.kind == "text":
            reads, inputs = "texts", how.vocabulary
        elif how.kind == "features":
            reads, inputs = "features", how.width
        else:
            inputs = how.channels
        if isinstance(self.objective, Score):
            return Signature(reads, inputs, self.outputs, self.objective.center, self.objective.scale)
        return Signature(reads, inputs, self.outputs, any_width=self.any_width)

    @property
    def target_scale(self) -> float:
        """The deviation of the targets, in which losses between continuous outputs are counted; 1 for classes."""
        return self.objective.scale if isinstance(self.objective, Score) else 1.0

    @property
    def benchmark_metric(self) -> str:
        """The name of the task's one figure in results, such as `fashion_mnist/accuracy`; decisions read it."""
        return f"{self.name}/{label_of(self.metric)}"

    @property
    def benchmark_metrics(self) -> tuple[str, ...]:
        """The names of the benchmarks' figures in results, such as `shop/recall@10`; no decision reads them."""
        return tuple(f"{name}/{one.metric}" for name, one in self.benchmarks.items())

    def together(self, split: str) -> npt.NDArray[np.int64] | None:
        """For each row of a split the number of those that belong in one batch with it [n]; None where none do.

        Queries and documents of a group: the loss of one without the others says nothing.
        """
        targets = self.splits[split].targets
        if not self.any_width or targets is None or self.in_one_space:
            return None
        return groups_of(targets) if targets.dtype.kind == "i" else np.arange(len(targets)) // 2

    def lengths(self, split: str) -> npt.NDArray[np.int64] | None:
        """Tokens of each text of a split [n]; None where all inputs are of one shape."""
        return self.ids(split).lengths if self.preprocessing.kind == "text" else None

    def spread(self, split: str, most: int) -> npt.NDArray[np.int64]:
        """Up to about `most` rows spread evenly over a split; of embeddings with all that belongs to each."""
        count, together = len(self.splits[split].inputs), self.together(split)
        if together is None or count <= most:
            return np.unique(np.linspace(0, count - 1, most).astype(np.int64))
        _, number, sizes = np.unique(together, return_inverse=True, return_counts=True)
        groups = max(1, min(len(sizes), round(most / sizes.mean())))
        chosen = np.unique(np.linspace(0, len(sizes) - 1, groups).astype(np.int64))
        return np.flatnonzero(np.isin(number, chosen))

    def batch(
        self, split: str, indices: npt.NDArray[np.int64], seed: int | None, mixup: float = 0.0
    ) -> npt.NDArray[Any]:
        """Inputs of a network for some samples: float32 [b, c, h, w] of images and [b, d] of features.

        Of texts they are ids of tokens, int64 [b, tokens of the longest of these].

        Args:
            split: Name of the split.
            indices: Rows of the split [b].
            seed: Of the augmentation, which depends on it and on each sample alone; None for the samples as they are.
            mixup: Share of the samples that are blended with another, augmented one (see `data.mixing`).

        Raises:
            DataError: Texts are to be mixed, which is nothing.
        """
        if mixup and self.preprocessing.kind == "text":
            raise DataError("texts cannot be mixed, so `mixup` must be 0 for them; leave it out")
        inputs = self._augmented(split, indices, seed)
        if seed is None or not mixup:
            return inputs
        partners, shares = self.mixing(split, indices, seed, mixup)
        mixed = np.flatnonzero(shares < 1)
        share = shares[mixed].reshape(-1, *[1] * (inputs.ndim - 1))
        inputs[mixed] = share * inputs[mixed] + (1 - share) * self._augmented(split, partners[mixed], seed)
        return inputs

    def first(self, split: str) -> npt.NDArray[Any]:
        """The first two samples of a split as they are, to try a network on; one where there is only one."""
        return self.batch(split, np.arange(min(2, len(self.splits[split].inputs))), None)

    def ids(self, split: str) -> Ragged:
        """The ids of tokens of a split of texts, as the task reads them."""
        part, how = self.splits[split], self.preprocessing
        assert how.kind == "text", "only texts have tokens"
        return self.tokens.of(part.digest, part.inputs, how).ids  # type: ignore[arg-type]  # the splits hold texts

    def mixing(
        self, split: str, indices: npt.NDArray[np.int64], seed: int, mixup: float
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Rows of the samples that `batch` blends these with [b], and the share of each sample itself [b]."""
        part = self.splits[split]
        return mixing(part.ids[indices], len(part.ids), seed, mixup)

    def _augmented(self, split: str, indices: npt.NDArray[np.int64], seed: int | None) -> npt.NDArray[Any]:
        part, how = self.splits[split], self.preprocessing
        if how.kind == "text":
            return how.padded(self.ids(split).rows(indices))
        inputs = part.inputs[indices]
        if seed is not None and not self.augmentation.changes_nothing:
            inputs = self.augmentation.apply(np.asarray(inputs, np.uint8), part.ids[indices], seed)
        return how.normalize(inputs)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The objective's loss of a batch of outputs [b, outputs] against its targets [b], a scalar."""
        return self.objective.loss(outputs, targets)


def metric_digest(metric: str) -> str:
    """The metric's name, or of the user's own the digest of its source: wherever that lies, it is the same metric.

    Raises:
        BadInput: There is no such file or module.
    """
    if not metric.startswith(OWN):
        return metric
    return digest_of([label_of(metric), source_digest(metric.removeprefix(OWN))])
