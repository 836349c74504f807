"""The processes that train together, as `accelerate launch` or `torchrun` start them; alone there is one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from compresslab.errors import BadInput, CompresslabError, StageFailed
from compresslab.launcher import processes

T = TypeVar("T")

# How long a process waits for another to appear, or to come as far in a step.
_TO_MEET = timedelta(minutes=10)
# How long the others wait while the main one exports and measures. One that has died is noticed at once all the same.
_TO_WORK = timedelta(days=7)


@dataclass(frozen=True)
class World:
    """This process's number, from 0, and how many there are."""

    rank: int
    size: int

    @property
    def main(self) -> bool:
        """Whether this process writes files, measures and talks to the user."""
        return self.rank == 0


def world() -> World:
    """The processes that were started together, connected on the first call.

    Raises:
        BadInput: The launcher's environment is there, but the processes cannot find each other.
    """
    return World(0, 1) if processes() == 1 else _connected()[0]


@cache
def _connected() -> tuple[World, torch.distributed.ProcessGroup]:
    """This process among the others, and a group in which to wait for the main one; on CPUs, for waiting takes none."""
    from accelerate import PartialState

    try:
        state = PartialState(cpu=not torch.cuda.is_available(), timeout=_TO_MEET)
        patient = torch.distributed.new_group(timeout=_TO_WORK, backend="gloo")
    except (RuntimeError, ValueError) as error:
        raise BadInput(f"the processes of the launcher cannot find each other: {error}") from error
    return World(state.process_index, state.num_processes), patient


def everywhere(tensor: Tensor) -> Tensor:
    """The rows that all processes hold, one process's after the other's; gradients flow back to where a row came from.

    Every process computes the same loss of the whole batch from it, so each knows the gradient of its own rows. That is
    multiplied by the number of processes, by which `mean_gradients` divides it: the result is the gradient that one
    process would have, for any loss, also one over the relations of a batch.

    Args:
        tensor: As many rows in every process [b, ...].
    """
    gathered: Tensor = tensor if world().size == 1 else _Everywhere.apply(tensor)  # type: ignore[no-untyped-call]
    return gathered


class _Everywhere(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, tensor: Tensor) -> Tensor:
        own = tensor.contiguous()
        context.rows = len(own)
        parts = [torch.empty_like(own) for _ in range(world().size)]
        torch.distributed.all_gather(parts, own)
        return torch.cat(parts)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        here = world()
        return gradient[here.rank * context.rows : (here.rank + 1) * context.rows] * here.size


def as_in_main(module: nn.Module) -> None:
    """Gives every process the main one's parameters and buffers: of these BatchNorm's depend on a process's samples."""
    if world().size > 1:
        for tensor in module.state_dict().values():
            torch.distributed.broadcast(tensor, src=0)


def mean_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Puts the mean over all processes in the place of each gradient; a parameter that no process used keeps none."""
    here = world()
    if here.size == 1:
        return
    used = parameters[0].new_tensor([parameter.grad is not None for parameter in parameters])
    given = [torch.zeros_like(one) if one.grad is None else one.grad for one in parameters]
    # One message for all: there are more parameters than it pays to send apart.
    together = torch.cat([*(gradient.flatten() for gradient in given), used])
    torch.distributed.all_reduce(together)
    means = torch.split(together / here.size, [*(gradient.numel() for gradient in given), len(parameters)])
    for parameter, mean, known in zip(parameters, means[:-1], means[-1].tolist(), strict=True):
        if known:
            parameter.grad = mean.view_as(parameter).contiguous()


def on_main(work: Callable[[], T]) -> T:
    """What `work` gives in the main process, which alone calls it while the others wait; plain data only.

    Raises:
        CompresslabError: What `work` raised, in every process.
    """
    here = world()
    if here.size == 1:
        return work()
    outcome: list[object] = [None, None]
    failure: CompresslabError | None = None
    if here.main:
        try:
            outcome[0] = work()
        except CompresslabError as error:
            failure = error
            outcome[1] = str(error)
    torch.distributed.broadcast_object_list(outcome, src=0, group=_connected()[1])
    if failure is not None:
        raise failure
    if outcome[1] is not None:
        raise StageFailed(str(outcome[1]))
    return outcome[0]  # type: ignore[return-value]  # what `work` of the main process returned


def main_first(work: Callable[[], T]) -> T:
    """What `work` gives, in every process; the main one goes first, so that the others find what it left on disk.

    Raises:
        CompresslabError: What `work` raised, in every process.
    """
    made: list[T] = []
    on_main(lambda: made.append(work()))
    return made[0] if made else work()


def wait() -> None:
    """Returns when every process has come here."""
    if world().size > 1:
        torch.distributed.barrier(group=_connected()[1])


@contextmanager
def together() -> Iterator[None]:
    """A block in which processes work together; at its end they part, unless it failed.

    Raises:
        StageFailed: Another process has ended, so this one cannot go on.
    """
    try:
        yield
    except RuntimeError as error:
        if processes() > 1 and _is_lost(error):
            raise StageFailed("a process that trains with this one has ended; what it said tells why") from error
        raise
    if processes() > 1 and torch.distributed.is_initialized():
        _connected.cache_clear()
        torch.distributed.destroy_process_group()


def _is_lost(error: RuntimeError) -> bool:
    """Whether a collective failed because its partner was gone; gloo has no class of its own for that."""
    return isinstance(error, torch.distributed.DistError) or "onnection" in str(error) or "gloo" in str(error)
