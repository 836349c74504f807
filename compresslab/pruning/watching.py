"""Looks on while a network runs."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from torch import nn


@contextmanager
def before(network: nn.Module, layers: Iterable[str], hook: Callable[..., object]) -> Iterator[None]:
    """Calls `hook(layer, arguments, name)` in front of each of these layers; what it returns replaces the arguments."""
    with ExitStack() as stack:
        for name in layers:
            handle = network.get_submodule(name).register_forward_pre_hook(
                lambda layer, given, name=name: hook(layer, given, name)
            )
            stack.callback(handle.remove)
        yield


@contextmanager
def after(network: nn.Module, layers: Iterable[str], hook: Callable[..., None]) -> Iterator[None]:
    """Calls `hook(name, layer, arguments, named arguments, result)` behind each of these layers."""
    with ExitStack() as stack:
        for name in layers:
            handle = network.get_submodule(name).register_forward_hook(
                lambda layer, given, named, result, name=name: hook(name, layer, given, named, result),
                with_kwargs=True,
            )
            stack.callback(handle.remove)
        yield


def names_of(network: nn.Module, kinds: tuple[type[nn.Module], ...]) -> tuple[str, ...]:
    """The names of the layers of these types."""
    return tuple(name for name, layer in network.named_modules() if isinstance(layer, kinds))
