"""Libraries that a network may come from and that few need: imported when one is asked for, and told when they fail."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

from compresslab.errors import ModelError

if TYPE_CHECKING:
    from types import ModuleType

Library = Literal["timm", "transformers"]

_EXTRA = {"timm": "timm", "transformers": "hf"}


def library(name: Library) -> ModuleType:
    """The library, imported.

    Raises:
        ModelError: It is not installed, or does not work here.
    """
    if find_spec(name) is None:
        raise ModelError(f"{name} is not installed; `pip install compresslab[{_EXTRA[name]}]` brings it")
    try:
        return import_module(name)
    except (ImportError, RuntimeError, OSError) as error:
        raise broken(name, error) from error


def broken(name: Library, error: BaseException) -> ModelError:
    """What to say when something of the library cannot be imported."""
    cause = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    remedy = "reinstall what it names"
    if "torchvision" in str(cause):
        # torch says only that an operator is missing, which nobody can know to mean this.
        remedy = (
            "torchvision is not the build that belongs to this torch; install both from the same index, or remove "
            "torchvision where only transformers is needed"
        )
    return ModelError(f"{name} is installed, but cannot be imported: {cause}; {remedy}")
