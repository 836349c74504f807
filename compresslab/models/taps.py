"""What named layers inside a network give while it runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from compresslab.errors import ModelError, did_you_mean

_SHOWN = 12


@contextmanager
def tapped(module: nn.Module, names: Sequence[str]) -> Iterator[Mapping[str, Tensor]]:
    """Collects what the named layers return, by name, while the network runs inside the block.

    A layer that runs several times in one pass is seen the last time; of a tuple the first tensor is taken.

    Raises:
        ModelError: A layer returns no tensor, or did not run.
    """
    seen: dict[str, Tensor] = {}

    def watch(name: str) -> Any:
        def hook(_module: nn.Module, _arguments: object, output: object) -> None:
            first = output[0] if isinstance(output, tuple | list) and output else output
            if not isinstance(first, Tensor):
                raise ModelError(f"layer `{name}` returns a {type(output).__name__}, not a tensor; name another layer")
            seen[name] = first

        return hook

    with ExitStack() as stack:
        for name in names:
            handle = module.get_submodule(name).register_forward_hook(watch(name))
            stack.callback(handle.remove)
        yield seen
    for name in names:
        if name not in seen:
            # A container such as nn.ModuleList is a layer by name, but nothing ever calls it.
            kind = type(module.get_submodule(name)).__name__
            raise ModelError(
                f"layer `{name}` ({kind}) is not run by its network, so there is nothing to see of it; name another "
                "layer, such as one inside it"
            )


def require_layers(module: nn.Module, names: Sequence[str], whose: str) -> None:
    """Checks that a network has all these layers.

    Args:
        module: The network.
        names: As in `named_modules()`.
        whose: What to call the network in the error, such as "the student".

    Raises:
        ModelError: A layer is missing; the message lists those there are.
    """
    there = [name for name, _ in module.named_modules() if name]
    for name in names:
        if not there:
            raise ModelError(
                f"{whose} is an ONNX file, which answers and shows none of its layers, so `{name}` cannot be read; "
                "give the network itself, or leave out the losses on features"
            )
        if name not in there:
            shown = ", ".join(f"`{one}`" for one in sorted(there, key=lambda one: (one.count("."), one))[:_SHOWN])
            more = f" and {len(there) - _SHOWN} more" if len(there) > _SHOWN else ""
            raise ModelError(f"{whose} has no layer `{name}`{did_you_mean(name, there)} It has {shown}{more}")
