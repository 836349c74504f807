"""The processes that train together, as `accelerate launch` starts them; alone there is one."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from compresslab.errors import BadInput, CompresslabError, StageFailed

T = TypeVar("T")


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
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return World(0, 1)
    from accelerate import PartialState

    try:
        state = PartialState(cpu=not torch.cuda.is_available())
    except (RuntimeError, ValueError) as error:
        raise BadInput(f"the processes of `accelerate launch` cannot find each other: {error}") from error
    return World(state.process_index, state.num_processes)


def everywhere(tensor: Tensor) -> Tensor:
    """The rows that all processes hold, one process's after the other's; gradients flow back to where a row came from.

    Every process computes the loss of the whole batch from it. The gradient of a row is then counted once for each
    process, which the mean that data parallel training takes of the parameters' gradients divides by the same number:
    the result is the gradient that one process would have, for any loss, also one over the relations of a batch.
    """
    if world().size == 1:
        return tensor
    from torch.distributed.nn import functional

    if not tensor.requires_grad:
        parts = [torch.empty_like(tensor) for _ in range(world().size)]
        torch.distributed.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)
    return torch.cat(functional.all_gather(tensor.contiguous()))  # type: ignore[no-untyped-call]


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
    torch.distributed.broadcast_object_list(outcome, src=0)
    if failure is not None:
        raise failure
    if outcome[1] is not None:
        raise StageFailed(str(outcome[1]))
    return outcome[0]  # type: ignore[return-value]  # what `work` of the main process returned


def wait() -> None:
    """Returns when every process has come here."""
    if world().size > 1:
        torch.distributed.barrier()
