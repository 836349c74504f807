"""A trained network as teacher: it answers each view once, and is read from the store ever after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from compresslab.data.alike import blocks_alike, in_order
from compresslab.digest import code_digest, digest_of, library_versions
from compresslab.errors import ModelError
from compresslab.models.taps import require_layers, tapped
from compresslab.store import Store
from compresslab.teacher.answers import OUTPUT, Answers, Cache, Question, require_columns
from compresslab.teacher.records import Records, Writer, read, spot_checked
from compresslab.world import on_main, wait

if TYPE_CHECKING:
    from pathlib import Path

    from compresslab.progress import Progress
    from compresslab.tasks import Task

_KIND = "teacher"
_BATCH = 500
# Texts are sorted by length among so many before they are answered; images and features need no more than a batch.
_WINDOW = 10_000
# Answers of one network differ by this much between batch sizes and thread counts in bf16; another network's by more.
_SPOT_TOLERANCE = 0.05

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class NetworkTeacher:
    """A trained network that answers for the samples of a task.

    Args:
        module: The network. It is used in eval mode, without gradients, and never changed.
        digest: Identifies the network: its architecture and weights.
        task: Whose samples it answers for.
        store: Where answers are kept: one entry for each view and output.
        device: "cpu" or "cuda".
        precision: Arithmetic of the forward pass; answers are float32.
        builder: The plain data that builds the network again; a student that is made of it needs it.
    """

    module: nn.Module
    digest: str
    task: Task
    store: Store
    device: str = "cpu"
    precision: Literal["bf16", "fp32"] = "bf16"
    builder: Mapping[str, Any] | None = None

    def require(self, mixup: float, outputs: Sequence[str]) -> None:  # noqa: ARG002  any mixture will do
        """As `Teacher.require`."""
        require_layers(self.module, [name for name in outputs if name != OUTPUT], "the teacher")

    def answers(self, question: Question, progress: Progress) -> Answers:
        """As `Teacher.answers`. Stored answers are held against the network's own for a few samples when opened."""
        self.require(question.mixup, question.outputs)
        seed, mixup, cache = question.seed, question.mixup, question.cache
        if seed is None or (self.task.augmentation.changes_nothing and not mixup):
            seed, mixup = None, 0.0  # the samples as they are, which are one view under any seed
        asked = _Asked(self, question.split, seed, mixup)
        stored = [name for name in question.outputs if name == OUTPUT or cache.features == "stored"]
        # One process looks what is there: another, a little later, would find what the first has just written.
        folders = on_main(lambda: self._folders(asked, stored, cache, progress))
        wait()
        records = {name: read(folder, self.task.outputs) for name, folder in folders.items()}
        return _Answers(asked, records, tuple(name for name in question.outputs if name not in stored))

    def exact(self) -> NetworkTeacher:
        """As `Teacher.exact`."""
        return replace(self, precision="fp32")

    def _folders(self, asked: _Asked, names: Sequence[str], cache: Cache, progress: Progress) -> dict[str, Path]:
        """Where the records are; what is not there is made, all of it in one pass."""
        keys = {name: self._key(asked, name, cache) for name in names}
        found = {name: self._usable(asked, name, key, progress) for name, key in keys.items()}
        missing = {name: key for name, key in keys.items() if found[name] is None}
        if missing:
            self._store(missing, asked, cache, progress)
        return {name: folder or self._written(keys[name]) for name, folder in found.items()}

    def _usable(self, asked: _Asked, name: str, key: str, progress: Progress) -> Path | None:
        """The stored records, if there are any and they are this teacher's."""
        found = self.store.find(_KIND, key)
        if found is None:
            return None
        records = read(found, self.task.outputs)
        rows = spot_checked(len(records))
        if records.distance(rows, asked.live(rows, [name])[name]) <= _SPOT_TOLERANCE:
            return found
        progress.note("cached teacher outputs differ from the teacher's own; they are computed again")
        self.store.discard(_KIND, key)
        return None

    def _written(self, key: str) -> Path:
        found = self.store.find(_KIND, key)
        assert found is not None, "an entry that was just written is there"
        return found

    def _store(self, keys: Mapping[str, str], asked: _Asked, cache: Cache, progress: Progress) -> None:
        samples = len(self.task.splits[asked.split].inputs)
        lengths = self.task.lengths(asked.split)
        with ExitStack() as stack:
            writers = {}
            for name, key in keys.items():
                folder = stack.enter_context(self.store.writing(_KIND, key))
                writers[name] = Writer(folder, samples, cache, logits=name == OUTPUT and not self.task.any_width)
            progress.start("teacher", samples)
            for rows in blocks_alike(None, samples, _BATCH if lengths is None else _WINDOW):
                answered = asked.in_batches(rows, list(keys), None if lengths is None else lengths[rows], progress)
                for name, values in answered.items():
                    if not np.isfinite(values).all():
                        raise ModelError(
                            f"the teacher's outputs on `{asked.split}` are not finite; its weights are damaged or "
                            "untrained"
                        )
                    writers[name].add(values)

    def _key(self, asked: _Asked, name: str, cache: Cache) -> str:
        return digest_of(
            {
                "teacher": self.digest,
                "output": name,
                "split": self.task.splits[asked.split].digest,
                "preprocessing": self.task.preprocessing.model_dump(mode="json"),
                "augmentation": None if asked.seed is None else self.task.augmentation.model_dump(mode="json"),
                "seed": asked.seed,
                "mixup": asked.mixup,
                "dtype": cache.dtype,
                "top_k": cache.top_k if name == OUTPUT else None,
                "precision": self.precision,
                "code": code_digest(__name__, "compresslab.data.augmentation", "compresslab.data.mixing"),
                "versions": library_versions("torch"),
            }
        )


@dataclass(frozen=True)
class _Asked:
    """One view of one split, and the network that looks at it."""

    teacher: NetworkTeacher
    split: str
    seed: int | None
    mixup: float

    def in_batches(
        self, rows: Rows, names: Sequence[str], lengths: npt.NDArray[np.int64] | None, progress: Progress
    ) -> dict[str, Floats]:
        """The network's own answers for many rows, those of a length together."""
        blocks = blocks_alike(lengths, len(rows), _BATCH)
        parts: dict[str, list[Floats]] = {name: [] for name in names}
        for block in blocks:
            for name, values in self.live(rows[block], names).items():
                parts[name].append(values)
            progress.advance(len(block))
        return {name: in_order(values, blocks) for name, values in parts.items()}

    def live(self, rows: Rows, names: Sequence[str]) -> dict[str, Floats]:
        """The network's own answers for some rows."""
        teacher, task = self.teacher, self.teacher.task
        # A teacher left in train mode would see its BatchNorm statistics drift with the student's data.
        teacher.module.eval().to(teacher.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        inputs = torch.from_numpy(task.batch(self.split, rows, self.seed, self.mixup)).to(teacher.device)
        if inputs.ndim == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        kind = torch.device(teacher.device).type
        layers = [name for name in names if name != OUTPUT]
        with (
            torch.inference_mode(),
            torch.autocast(kind, dtype=torch.bfloat16, enabled=teacher.precision == "bf16"),
            tapped(teacher.module, layers) as seen,
        ):
            outputs = teacher.module(inputs)
        answered = {name: seen[name].float().cpu().numpy() for name in layers}
        if OUTPUT in names:
            answered[OUTPUT] = outputs.float().cpu().numpy()
            require_columns("the teacher", answered[OUTPUT].shape, len(rows), task)
        return answered


@dataclass(frozen=True)
class _Answers:
    asked: _Asked
    records: Mapping[str, Records]
    live: tuple[str, ...] = field(default=())

    def of(self, rows: Rows) -> Mapping[str, Floats]:
        stored = {name: records.of(rows) for name, records in self.records.items()}
        return {**stored, **self.asked.live(rows, self.live)} if self.live else stored
