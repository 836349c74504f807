"""The teacher: raw logits for any augmented view of a split, computed once and read from the store ever after."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import nn

from compresslab.digest import code_digest, digest_of, library_versions
from compresslab.errors import ModelError
from compresslab.store import Store

if TYPE_CHECKING:
    from compresslab.progress import Progress
    from compresslab.tasks import Task

_BATCH = 500
_SPOT_CHECKED = 16
# Logits of one network differ by this much between batch sizes and thread counts in bf16; another network's by more.
_SPOT_TOLERANCE = 0.05


@dataclass(frozen=True)
class Teacher:
    """A trained network that answers for the samples of a task.

    A view is one augmented version of a whole split, fixed by its seed: every sample's augmentation derives from
    (sample, seed), so a stored answer belongs to exactly the pixels that the student sees. A cache by sample alone
    would be wrong as soon as anything is augmented (TinyViT, arXiv 2207.10666, stores the augmentation's seed too).

    Args:
        module: The network. It is used in eval mode, without gradients, and never changed.
        digest: Identifies the network: its architecture and weights.
        task: Whose samples it answers for.
        store: Where views are kept: one float32 array [samples, classes] each, memory-mapped when read.
        device: "cpu" or "cuda".
        precision: Arithmetic of the forward pass; the logits are kept as float32.
    """

    module: nn.Module
    digest: str
    task: Task
    store: Store
    device: str = "cpu"
    precision: Literal["bf16", "fp32"] = "bf16"

    def view(self, split: str, seed: int | None, progress: Progress) -> np.ndarray:
        """Raw logits [samples, classes] of every sample of a split under one augmentation seed (None: not augmented).

        Raises:
            ModelError: The network's outputs do not fit the task's labels, or are not finite.
        """
        key = self._key(split, seed)
        found = self.store.find("teacher", key)
        if found is not None:
            logits = np.load(found / "logits.npy", mmap_mode="r", allow_pickle=False)
            if self._still_true(logits, split, seed):
                return np.asarray(logits)
            progress.note("cached teacher outputs differ from the teacher's own; they are computed again")
            self.store.discard("teacher", key)
        with self.store.writing("teacher", key) as folder:
            self._compute(folder / "logits.npy", split, seed, progress)
        return np.asarray(np.load(self._found(key) / "logits.npy", mmap_mode="r", allow_pickle=False))

    def _found(self, key: str) -> Path:
        found = self.store.find("teacher", key)
        assert found is not None, "an entry that was just written is there"
        return found

    def _key(self, split: str, seed: int | None) -> str:
        return digest_of(
            {
                "teacher": self.digest,
                "split": self.task.splits[split].digest,
                "preprocessing": self.task.preprocessing.model_dump(mode="json"),
                "augmentation": None if seed is None else self.task.augmentation.model_dump(mode="json"),
                "seed": seed,
                "precision": self.precision,
                "code": code_digest(__name__, "compresslab.data.augmentation"),
                "versions": library_versions("torch"),
            }
        )

    def _compute(self, path: Path, split: str, seed: int | None, progress: Progress) -> None:
        samples = len(self.task.splits[split].inputs)
        logits = np.empty((samples, self.task.outputs), np.float32)
        progress.start("teacher", samples)
        for start in range(0, samples, _BATCH):
            rows = np.arange(start, min(start + _BATCH, samples))
            logits[rows] = self._answer(split, rows, seed)
            progress.advance(len(rows))
        if not np.isfinite(logits).all():
            raise ModelError(f"the teacher's outputs on `{split}` are not finite; its weights are damaged or untrained")
        # Not np.save, whose error does not say that the disk is full.
        with path.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(logits))
            file.write(logits.data)

    def _answer(self, split: str, rows: np.ndarray, seed: int | None) -> np.ndarray:
        # A teacher left in train mode would see its BatchNorm statistics drift with the student's data.
        self.module.eval().to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        inputs = torch.from_numpy(self.task.batch(split, rows, seed)).to(self.device)
        if inputs.ndim == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        device = torch.device(self.device)
        with (
            torch.inference_mode(),
            torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16"),
        ):
            outputs = self.module(inputs).float().cpu().numpy()
        expected = (len(rows), self.task.outputs)
        if outputs.shape != expected:
            raise ModelError(
                f"the teacher answers with shape {list(outputs.shape)}, but the task has {self.task.outputs} "
                f"labels and needs {list(expected)}; give a teacher that was trained on the same labels"
            )
        return np.asarray(outputs, np.float32)

    def _still_true(self, logits: np.ndarray, split: str, seed: int | None) -> bool:
        """Whether the live teacher gives the stored logits for a few samples spread over the split."""
        rows = np.unique(np.linspace(0, len(logits) - 1, _SPOT_CHECKED).astype(np.int64))
        live = self._answer(split, rows, seed)
        scale = max(1.0, float(np.abs(live).max()))
        return bool(np.abs(live - logits[rows]).max() <= _SPOT_TOLERANCE * scale)
