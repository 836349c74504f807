"""A task: its splits, the loss of one batch, what is measured, and how samples become inputs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from compresslab.data.mixing import mixing
from compresslab.digest import code_digest, digest_of
from compresslab.measure.metric_names import OWN, label_of
from compresslab.models import Signature
from compresslab.tasks.objective import Classes, Score
from compresslab.user_code import source_digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from compresslab.data.augmentation import Augmentation
    from compresslab.data.identity import Ids
    from compresslab.data.splits import Rows
    from compresslab.measure.preprocessing import Preprocessing, Samples
    from compresslab.models.signature import Reads
    from compresslab.tasks.objective import Objective

Targets: TypeAlias = npt.NDArray[np.int64] | npt.NDArray[np.float32]

# What turns the splits into inputs and a loss; what made the splits shows in their content.
_CODE = (
    "compresslab.tasks.task", "compresslab.tasks.objective", "compresslab.data.augmentation",
    "compresslab.data.mixing", "compresslab.measure.preprocessing",
)  # fmt: skip


@dataclass(frozen=True)
class Split:
    """Samples of one part of the data.

    Args:
        name: `train`, `transfer`, `calibration`, `validation` or `test`.
        inputs: uint8 images [n, h, w, c] or float32 features [n, d]; memory-mapped when they are many.
        targets: Indices into the task's labels, or float32 scores [n]; None where there are none.
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
    images are augmented; of anything else the augmentation is the one that changes nothing.
    """

    name: str
    objective: Objective
    splits: Mapping[str, Split]
    preprocessing: Preprocessing
    augmentation: Augmentation
    metric: str
    digest: str
    notes: tuple[str, ...] = ()

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
    ) -> Task:
        """The task with its digest."""
        digest = digest_of(
            {
                "name": name,
                "objective": {"kind": objective.kind, **asdict(objective)},
                "splits": {split: part.digest for split, part in splits.items()},
                "preprocessing": preprocessing.model_dump(mode="json"),
                "augmentation": augmentation.model_dump(mode="json"),
                "metric": metric_digest(metric),
                "code": code_digest(*_CODE),
            }
        )
        return cls(name, objective, splits, preprocessing, augmentation, metric, digest, notes)

    @property
    def kind(self) -> Literal["classification", "regression"]:
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
        """Columns of a network's output."""
        return self.objective.outputs

    @property
    def signature(self) -> Signature:
        """What a network must read and answer to be one of this task's."""
        how = self.preprocessing
        reads: Reads = "features" if how.kind == "features" else "images"
        inputs = how.width if how.kind == "features" else how.channels
        if isinstance(self.objective, Score):
            return Signature(reads, inputs, self.outputs, self.objective.center, self.objective.scale)
        return Signature(reads, inputs, self.outputs)

    @property
    def target_scale(self) -> float:
        """The deviation of the targets, in which losses between continuous outputs are counted; 1 for classes."""
        return self.objective.scale if isinstance(self.objective, Score) else 1.0

    @property
    def benchmark_metric(self) -> str:
        """The name of the task's one figure in results, such as `fashion_mnist/accuracy`."""
        return f"{self.name}/{label_of(self.metric)}"

    def batch(
        self, split: str, indices: npt.NDArray[np.int64], seed: int | None, mixup: float = 0.0
    ) -> npt.NDArray[np.float32]:
        """Inputs of a network for some samples, float32 [b, c, h, w] of images and [b, d] of features.

        Args:
            split: Name of the split.
            indices: Rows of the split [b].
            seed: Of the augmentation, which depends on it and on each sample alone; None for the samples as they are.
            mixup: Share of the samples that are blended with another, augmented one (see `data.mixing`).
        """
        inputs = self._augmented(split, indices, seed)
        if seed is None or not mixup:
            return inputs
        partners, shares = self.mixing(split, indices, seed, mixup)
        mixed = np.flatnonzero(shares < 1)
        share = shares[mixed].reshape(-1, *[1] * (inputs.ndim - 1))
        inputs[mixed] = share * inputs[mixed] + (1 - share) * self._augmented(split, partners[mixed], seed)
        return inputs

    def mixing(
        self, split: str, indices: npt.NDArray[np.int64], seed: int, mixup: float
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Rows of the samples that `batch` blends these with [b], and the share of each sample itself [b]."""
        part = self.splits[split]
        return mixing(part.ids[indices], len(part.ids), seed, mixup)

    def _augmented(self, split: str, indices: npt.NDArray[np.int64], seed: int | None) -> npt.NDArray[np.float32]:
        part = self.splits[split]
        inputs = part.inputs[indices]
        if seed is not None and not self.augmentation.changes_nothing:
            inputs = self.augmentation.apply(np.asarray(inputs, np.uint8), part.ids[indices], seed)
        return self.preprocessing.normalize(inputs)

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


def content_digest(inputs: Samples, targets: Targets | None, hashes: npt.NDArray[np.uint8]) -> str:
    """SHA-256 of a split's content: its samples' hashes [n, 32] in their order, and their targets."""
    digest = sha256(f"{inputs.dtype} {inputs.shape}".encode())
    digest.update(np.ascontiguousarray(hashes).data)
    if targets is not None:
        digest.update(np.ascontiguousarray(targets, "<i8" if targets.dtype.kind == "i" else "<f4").data)
    return digest.hexdigest()
