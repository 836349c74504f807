"""A task: its splits, the loss of one batch, what is measured, and how samples become inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from compresslab.data.mixing import mixing

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt
    from torch import Tensor

    from compresslab.data.arrays import Images, Targets
    from compresslab.data.augmentation import Augmentation
    from compresslab.data.identity import Ids
    from compresslab.measure.preprocessing import ImagePreprocessing


@dataclass(frozen=True)
class Split:
    """Samples of one part of the data.

    Args:
        name: `train`, `transfer`, `calibration`, `validation` or `test`.
        inputs: uint8 [n, h, w, c]; memory-mapped when they are many.
        targets: Indices into the task's labels [n]; None where there are no labels.
        ids: The first eight bytes of each sample's SHA-256 [n].
        digest: SHA-256 of the content, in this order, with its targets.
    """

    name: str
    inputs: Images
    targets: Targets | None
    ids: Ids
    digest: str


@dataclass(frozen=True)
class Task:
    """What a network is for. Splits are disjoint by content; `transfer` is there only if the user gave such samples.

    `digest` covers everything here that can change a result; `notes` is what the user should know of the data.
    """

    name: str
    labels: tuple[str, ...]
    splits: Mapping[str, Split]
    preprocessing: ImagePreprocessing
    augmentation: Augmentation
    metric: str
    digest: str
    notes: tuple[str, ...] = ()

    @property
    def outputs(self) -> int:
        """Columns of a network's output."""
        return len(self.labels)

    @property
    def target_scale(self) -> float:
        """The deviation of the targets, in which losses between continuous outputs are counted; 1 for classes."""
        return 1.0

    @property
    def benchmark_metric(self) -> str:
        """The name of the task's one figure in results, such as `fashion_mnist/accuracy`."""
        return f"{self.name}/{self.metric}"

    def batch(
        self, split: str, indices: npt.NDArray[np.int64], seed: int | None, mixup: float = 0.0
    ) -> npt.NDArray[np.float32]:
        """Inputs of a network for some samples, float32 [b, c, h, w].

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
            inputs = self.augmentation.apply(inputs, part.ids[indices], seed)
        return self.preprocessing.normalize(inputs)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy of logits [b, classes] to class indices [b], averaged; in float32 also under autocast."""
        from torch.nn import functional

        return functional.cross_entropy(outputs.float(), targets)
