"""fit(): the only training loop. What is learned is the caller's loss; how, the settings here."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from accelerate import Accelerator
from pydantic import Field
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from compresslab.errors import BadInput, Diverged
from compresslab.settings import Settings
from compresslab.world import World, as_in_main, everywhere, mean_gradients, wait, world

if TYPE_CHECKING:
    from compresslab.progress import Progress


_DIGEST_BYTES = sha256().digest_size
_ARITHMETIC = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


class FitSettings(Settings):
    """How a network is trained."""

    epochs: int = Field(ge=1)
    """Passes over the training split."""
    batch: int = Field(128, ge=2)
    """Samples a step. The last, smaller batch of an epoch is left out: it would disturb BatchNorm."""
    learning_rate: float = Field(0.1, gt=0)
    """The highest learning rate of the schedule."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """`sgd` is with Nesterov momentum 0.9."""
    weight_decay: float = Field(5e-4, ge=0)
    """Not applied to biases and to the scales of normalisation layers."""
    schedule: Literal["one_cycle", "cosine", "constant"] = "one_cycle"
    """`one_cycle` warms up and then falls to zero along a cosine; `cosine` only falls."""
    warmup: float = Field(0.2, ge=0, lt=1)
    """Share of the steps in which `one_cycle` rises."""
    clip: float | None = Field(2.0, gt=0)
    """Largest norm of the gradient; null for no limit."""
    ema: float | None = Field(None, gt=0, lt=1)
    """Decay per step of an exponential moving average of the weights, which is then what is kept."""
    precision: Literal["bf16", "fp16", "fp32"] = "bf16"
    """Arithmetic of the forward and backward pass; weights and losses are fp32 in all. `fp16` scales its gradients."""
    accumulate: int = Field(1, ge=1)
    """Parts in which a step's batch is computed, one after the other, where the whole does not fit memory. Losses over
    the relations of a batch, and BatchNorm, see a part at a time."""


@dataclass(frozen=True)
class Batch:
    """Samples of one step.

    Args:
        inputs: float32 [b, ...].
        targets: Whole numbers or floats [b], or one row a sample [b, outputs]; None where nothing is labelled.
        labelled: Which samples have targets, bool [b]; None where all have, or none.
        teacher: The teacher's answers by name, float32 [b, ...] each; empty without a teacher.
        labelled_share: Share of the labelled samples in the step's whole batch, where this is a part of one: a mean
            over the labelled samples of the parts must weigh a part by how many it has. None where all or none are.
    """

    inputs: Tensor
    targets: Tensor | None
    labelled: Tensor | None = None
    teacher: Mapping[str, Tensor] = field(default_factory=dict)
    labelled_share: float | None = None

    def to(self, device: torch.device) -> Batch:
        """The batch on a device; images in the memory order that convolutions like."""
        inputs = self.inputs.to(device)
        if inputs.ndim == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        return Batch(
            inputs,
            None if self.targets is None else self.targets.to(device),
            None if self.labelled is None else self.labelled.to(device),
            {name: values.to(device) for name, values in self.teacher.items()},
            self.labelled_share,
        )

    def parts(self, count: int) -> tuple[Batch, ...]:
        """The batch in `count` parts of nearly the same size, each with its share of the unlabelled samples."""
        if count == 1:
            return (self,)
        rows = torch.arange(len(self.inputs))
        return tuple(self._rows(rows[one::count]) for one in range(min(count, len(rows))))

    def share(self, world: World) -> Batch:
        """What this process computes of the batch: every so many-th sample."""
        if world.size == 1:
            return self
        return self._rows(torch.arange(world.rank, len(self.inputs), world.size))

    def gathered(self) -> Batch:
        """What is known of the samples of all processes; the inputs are those of this one."""
        return replace(
            self,
            targets=None if self.targets is None else everywhere(self.targets),
            labelled=None if self.labelled is None else everywhere(self.labelled),
            teacher={name: everywhere(values) for name, values in self.teacher.items()},
        )

    def _rows(self, rows: Tensor) -> Batch:
        share = self.labelled_share
        if share is None and self.labelled is not None:
            share = float(self.labelled.float().mean())
        return Batch(
            self.inputs[rows],
            None if self.targets is None else self.targets[rows],
            None if self.labelled is None else self.labelled[rows],
            {name: values[rows] for name, values in self.teacher.items()},
            share,
        )


@dataclass(frozen=True)
class Epoch:
    """Means over one epoch."""

    loss: float
    learning_rate: float


Loss = Callable[[nn.Module, Batch], Tensor]


def fit(
    module: nn.Module,
    batches: Callable[[int], Iterable[Batch]],
    steps: int,
    loss: Loss,
    settings: FitSettings,
    *,
    seed: int,
    device: str,
    scratch: Path,
    progress: Progress,
    phase: str,
    until: int | None = None,
) -> tuple[Epoch, ...]:
    """Trains `module` in place and returns one record an epoch.

    The same arguments give the same weights, byte for byte, on the same machine; also when the process was killed
    and `fit` is called again with the same `scratch`, which holds a checkpoint of the last whole epoch. Processes that
    `accelerate launch` started compute a part of each batch each, and end with the same weights.

    Args:
        module: The network; its parameters that require a gradient are trained.
        batches: epoch -> the batches of that epoch; must depend on the epoch alone.
        steps: Batches an epoch.
        loss: (module, batch) -> scalar, the mean over the batch. Called under autocast when `settings.precision` says
            so. With several processes it must gather the outputs of all (see `world.everywhere`), and be the same in
            each.
        settings: How to train.
        seed: Of whatever is random inside the network (dropout).
        device: "cpu" or "cuda".
        scratch: A folder for checkpoints that outlives this process.
        progress: Told of every step.
        phase: What to call this training in progress and errors.
        until: Stops after this many epochs of the schedule; the same call with more goes on from there.

    Raises:
        Diverged: The loss became NaN or infinite.
        BadInput: The batch cannot be shared evenly among the processes.
    """
    here = world()
    if here.size > 1 and settings.batch % (here.size * settings.accumulate):
        what = "a batch" if settings.accumulate == 1 else "parts of a batch"
        raise BadInput(
            f"{phase}: {here.size} processes must share {what} evenly, but `batch` is {settings.batch}; make it a "
            f"multiple of {here.size * settings.accumulate}"
        )
    # Whatever the launcher says of mixed precision is not meant: `settings.precision` is.
    place = Accelerator(cpu=device == "cpu", mixed_precision="no").device
    last = settings.epochs if until is None else min(until, settings.epochs)
    optimizer = _optimizer(module, settings)
    module.to(place).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
    average = (
        AveragedModel(module, multi_avg_fn=_average(settings.ema), use_buffers=True)
        if settings.ema is not None
        else None
    )
    scaler = torch.amp.GradScaler(place.type, enabled=settings.precision == "fp16")
    checkpoint = _Checkpoint(scratch / f"{phase}.checkpoint", module, optimizer, average, scaler)
    history = checkpoint.restore(progress)
    wait()  # until all have read the checkpoint, before the first writes a new one
    as_in_main(module)
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    progress.start(phase, steps * last)
    progress.advance(steps * len(history))
    with torch.random.fork_rng(devices=[]):
        for epoch in range(len(history), last):
            torch.manual_seed((seed * 1_000_003 + epoch) * here.size + here.rank)
            module.train()
            total, count = 0.0, 0
            for batch in batches(epoch):
                current = 0.0
                rate = settings.learning_rate * _rate(epoch * steps + count, steps * settings.epochs, settings)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                optimizer.zero_grad(set_to_none=True)
                for part in batch.parts(settings.accumulate):
                    if len(part.inputs) % here.size:
                        raise BadInput(
                            f"{phase}: {here.size} processes cannot share {len(part.inputs)} samples evenly; there are "
                            "fewer than a batch, so start one process"
                        )
                    share = len(part.inputs) / len(batch.inputs)
                    with torch.autocast(place.type, dtype=_ARITHMETIC[settings.precision],
                                        enabled=settings.precision != "fp32"):  # fmt: skip
                        value = loss(module, part.share(here).to(place)) * share
                    current += float(value.detach())
                    scaler.scale(value).backward()  # type: ignore[no-untyped-call]
                mean_gradients(trained)
                if not math.isfinite(current):
                    raise Diverged(
                        f"{phase}: the loss became {current} in epoch {epoch + 1}, step {count + 1}, at a learning "
                        f"rate of {rate:.3g}; lower `learning_rate` (now "
                        f"{settings.learning_rate:g}), set `clip`, or use `precision: fp32`"
                    )
                if settings.clip is not None:
                    scaler.unscale_(optimizer)
                    torch.nn.utils.clip_grad_norm_(trained, settings.clip)
                scaler.step(optimizer)
                scaler.update()
                if average is not None:
                    average.update_parameters(module)
                total, count = total + current, count + 1
                progress.advance(1, epoch=epoch + 1, loss=current)
            history = (*history, Epoch(total / count, rate))
            if here.main:
                checkpoint.save(history)
    if average is not None:
        module.load_state_dict(average.module.state_dict())
    as_in_main(module)
    module.to("cpu").to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    module.eval()
    return history


def epoch_order(samples: int, batch: int, seed: int, epoch: int) -> list[np.ndarray]:
    """The sample indices of every batch of an epoch, shuffled; samples that fill no batch wait for another epoch."""
    order = np.random.default_rng([seed, epoch]).permutation(samples)
    size = min(batch, samples)
    return [order[start : start + size] for start in range(0, samples - size + 1, size)]


def _average(decay: float) -> Callable[..., None]:
    function: Callable[..., None] = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    return function


def _optimizer(module: nn.Module, settings: FitSettings) -> torch.optim.Optimizer:
    trained = [p for p in module.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=settings.learning_rate)
    return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=0.9, nesterov=True)


def _rate(step: int, total: int, settings: FitSettings) -> float:
    """The learning rate at a step as a share of the highest."""
    if settings.schedule == "constant":
        return 1.0
    rising = settings.warmup * total if settings.schedule == "one_cycle" else 0.0
    if step < rising:
        return 0.04 + 0.96 * step / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1.0, total - rising)))


class _Checkpoint:
    """The state after the last whole epoch, on disk: a SHA-256, and what it is of.

    Only tensors and numbers, so that loading executes nothing. torch would load changed weights without a word.
    """

    def __init__(
        self,
        path: Path,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        average: AveragedModel | None,
        scaler: torch.amp.GradScaler,
    ) -> None:
        self.path = path
        self.parts: dict[str, Any] = {"module": module, "optimizer": optimizer, "scaler": scaler}
        if average is not None:
            self.parts["average"] = average

    def save(self, history: tuple[Epoch, ...]) -> None:
        state: dict[str, Any] = {name: part.state_dict() for name, part in self.parts.items()}
        state["history"] = [(epoch.loss, epoch.learning_rate) for epoch in history]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()  # torch's own writing to a file does not say that the disk is full
        torch.save(state, content)
        partial = self.path.with_suffix(".partial")
        with partial.open("wb") as file:
            file.write(sha256(content.getbuffer()).digest())
            file.write(content.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.path)

    def restore(self, progress: Progress) -> tuple[Epoch, ...]:
        if not self.path.exists():
            return ()
        stored = self.path.read_bytes()
        content = stored[_DIGEST_BYTES:]
        if sha256(content).digest() != stored[:_DIGEST_BYTES]:
            # It stays until the next one takes its place: another process may be about to read it too.
            progress.note(f"the checkpoint {self.path.name} is damaged; this training starts again")
            return ()
        state = torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        return tuple(Epoch(loss, rate) for loss, rate in state["history"])
