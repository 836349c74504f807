"""Libraries that a network may come from and that few need: imported when one is asked for, and told when they fail."""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

from compresslab.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

Library = Literal["timm", "transformers"]

_EXTRA = {"timm": "timm", "transformers": "hf"}
# What they warn of, when a network is opened, is kernels that are not for this machine, how one library calls another,
# and weights that a network does without; those that it lacks are an error of ours.
_NOISY = ("transformers", "torchao", "torch.utils._pytree")


def library(name: Library) -> ModuleType:
    """The library, imported.

    Raises:
        ModelError: It is not installed, or does not work here.
    """
    if find_spec(name) is None:
        raise ModelError(f"{name} is not installed; `pip install compresslab[{_EXTRA[name]}]` brings it")
    try:
        with quiet():
            if name == "transformers":
                _without_broken_torchvision()
            return import_module(name)
    except (ImportError, RuntimeError, OSError) as error:
        raise broken(name, error) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Lets these libraries log errors alone, while something of them is imported or a network is opened."""
    loggers = [logging.getLogger(name) for name in _NOISY]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            if logger.level == logging.ERROR:  # importing a library sets its own
                logger.setLevel(level)


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


def _without_broken_torchvision() -> None:
    """Tells transformers that there is no torchvision, where it is built for another torch than is here.

    It is asked for whenever it is installed, and only for preparing images, which we do by ourselves: no network needs
    it. timm does, so what is broken is told there.
    """
    utilities = "transformers.utils.import_utils"
    if find_spec("torchvision") is None or utilities in sys.modules:
        return
    try:
        import_module("torchvision")
    except (ImportError, RuntimeError, OSError):
        # The library has no setting for it, and looks at nothing but this.
        vars(import_module(utilities))["_torchvision_available"] = False
