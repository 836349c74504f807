"""How a network is constructed, as plain data that can be stored beside its weights."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import torch
from pydantic import Field, JsonValue, TypeAdapter, ValidationError
from torch import nn

from compresslab.errors import ModelError
from compresslab.models.mlp import Mlp
from compresslab.models.residual import Residual
from compresslab.settings import Settings
from compresslab.user_code import call, canonical_name, source_digest

if TYPE_CHECKING:
    from collections.abc import Collection


class ResidualBuilder(Settings):
    """A built-in residual network."""

    kind: Literal["residual"] = "residual"
    residual: Residual
    classes: int = Field(ge=1)
    in_channels: int = Field(ge=1)


class MlpBuilder(Settings):
    """Built-in fully connected layers, and the units that they answer in."""

    kind: Literal["mlp"] = "mlp"
    mlp: Mlp
    outputs: int = Field(ge=1)
    inputs: int = Field(ge=1)
    center: float = 0.0
    scale: float = Field(1.0, gt=0)


class PythonBuilder(Settings):
    """A function of the user's own, by its canonical name, with the digest that its source had."""

    kind: Literal["python"] = "python"
    function: str
    arguments: dict[str, JsonValue]
    source: str

    @staticmethod
    def of(function: str, arguments: dict[str, JsonValue]) -> PythonBuilder:
        """The builder for a function as the pipeline names it.

        Raises:
            BadInput: There is no such file or module.
        """
        return PythonBuilder(function=canonical_name(function), arguments=arguments, source=source_digest(function))


AnyBuilder: TypeAlias = ResidualBuilder | MlpBuilder | PythonBuilder

_BUILDER: TypeAdapter[AnyBuilder] = TypeAdapter(Annotated[AnyBuilder, Field(discriminator="kind")])


def read_builder(plain: Any, where: str) -> AnyBuilder:
    """Checks plain data as it was stored.

    Raises:
        ModelError: It describes no builder that is known.
    """
    try:
        return _BUILDER.validate_python(plain)
    except ValidationError as error:
        first = error.errors()[0]
        raise ModelError(
            f"{where}: does not say how the network is built: {'.'.join(map(str, first['loc']))}: {first['msg']}"
        ) from error


def construct(builder: AnyBuilder, trusted: Collection[str]) -> nn.Module:
    """The network with new weights, which it draws from torch's generator, in eval mode.

    Args:
        builder: How it is built.
        trusted: The user's own functions that may be run, because the pipeline names them.

    Raises:
        ModelError: The user's function is not among `trusted`, or does not return a network.
        BadInput: It cannot be found, or fails.
    """
    if isinstance(builder, ResidualBuilder):
        return builder.residual.build(builder.classes, builder.in_channels).eval()
    if isinstance(builder, MlpBuilder):
        return builder.mlp.build(builder.outputs, builder.inputs, builder.center, builder.scale).eval()
    function = _trusted(builder, trusted)
    module = call(function, builder.arguments)
    if not isinstance(module, nn.Module):
        raise ModelError(f"{function}: must return a torch.nn.Module, but returned a {type(module).__name__}")
    return module.eval()


def construct_again(builder: AnyBuilder, trusted: Collection[str]) -> nn.Module:
    """Like `construct`, but leaves torch's generator as it was: the weights will be replaced anyway.

    Warns when the user's source is no longer what the network was first built with.
    """
    with torch.random.fork_rng(devices=[]):
        module = construct(builder, trusted)
    if isinstance(builder, PythonBuilder):
        function = _trusted(builder, trusted)
        if source_digest(function) != builder.source:
            warnings.warn(
                f"{function}: the code has changed since this network was saved; if its forward did, so do the outputs",
                stacklevel=2,
            )
    return module


def _trusted(builder: PythonBuilder, trusted: Collection[str]) -> str:
    """The trusted function that is meant; its file may lie elsewhere than when the network was saved."""
    for function in trusted:
        if canonical_name(function) == builder.function:
            return function
    raise ModelError(
        f"this network is built by `{builder.function}`, and code that only a file names is not run; if you trust it, "
        f"add `python: {builder.function}` beside `checkpoint`"
    )
