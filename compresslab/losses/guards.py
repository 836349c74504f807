"""What every loss keeps to: fp32 at least, and student and teacher of one shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, ParamSpec

import torch
from torch import Tensor

P = ParamSpec("P")


def in_fp32(loss: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Makes a loss compute in fp32 whatever the networks ran in: half types are widened, autocast is off inside.

    Without it autocast would run the matrix products of a loss in bf16, whose 8 bits cannot tell similarities
    apart that differ by less than 0.4 %. float64 stays float64, so that gradients can be checked.
    """
    computed: Callable[..., Tensor] = loss

    @wraps(loss)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        given = [_widened(argument) for argument in args]
        named = {name: _widened(argument) for name, argument in kwargs.items()}
        with torch.autocast(_device_type([*given, *named.values()]), enabled=False):
            return computed(*given, **named)

    return guarded


def same_shape(one: Tensor, other: Tensor, remedy: str, names: str = "student and teacher") -> None:
    """Raises ValueError where the shapes differ: broadcasting would make a loss of the wrong pairs, silently."""
    if one.shape != other.shape:
        raise ValueError(
            f"{names} must have the same shape, but got {list(one.shape)} and {list(other.shape)}; {remedy}"
        )


def at_least(samples: int, batch: Tensor, relation: str) -> None:
    """Raises ValueError where a batch has too few samples for a relation between them to exist."""
    if len(batch) < samples:
        raise ValueError(
            f"{relation} needs a batch of at least {samples} samples, but got {len(batch)}; make the batch larger"
        )


def _widened(argument: Any) -> Any:
    if isinstance(argument, Tensor):
        return argument.float() if argument.dtype in (torch.float16, torch.bfloat16) else argument
    if isinstance(argument, Sequence) and any(isinstance(item, Tensor) for item in argument):
        return tuple(_widened(item) for item in argument)
    return argument


def _device_type(arguments: Sequence[Any]) -> str:
    for argument in arguments:
        if isinstance(argument, Tensor):
            return argument.device.type
        if isinstance(argument, tuple) and argument:
            return _device_type(argument)
    return "cpu"
