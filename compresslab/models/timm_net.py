"""Networks of timm's (https://github.com/huggingface/pytorch-image-models), with new weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from compresslab.errors import ModelError, did_you_mean
from compresslab.models.libraries import library

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import JsonValue

# What a wrong argument makes a constructor raise.
_MISTAKES = (TypeError, ValueError, RuntimeError, AssertionError, LookupError, AttributeError, ArithmeticError)


def timm_version() -> str:
    """The version that is installed.

    Raises:
        ModelError: timm is not installed, or does not work here.
    """
    return str(library("timm").__version__)


def build_timm(name: str, classes: int, in_channels: int, arguments: Mapping[str, JsonValue]) -> nn.Module:
    """A network for images [b, in_channels, h, w], which gives logits [b, classes].

    Args:
        name: Such as `resnet50`.
        classes: Outputs.
        in_channels: Channels of the images.
        arguments: Further ones of `timm.create_model`, such as `img_size`; None stands for timm's default.

    Raises:
        ModelError: timm is missing, does not know the name, or does not take the arguments.
    """
    timm = library("timm")
    if not timm.is_model(name):
        raise ModelError(f"timm {timm.__version__} has no network `{name}`{did_you_mean(name, timm.list_models())}")
    try:
        module = timm.create_model(name, pretrained=False, num_classes=classes, in_chans=in_channels, **arguments)
    except _MISTAKES as error:
        given = ", ".join(f"`{argument}`" for argument in arguments) or "no arguments"
        raise ModelError(f"timm's {name} cannot be built with {given}: {error}") from error
    assert isinstance(module, nn.Module)
    return module
