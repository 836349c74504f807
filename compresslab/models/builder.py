"""How a network is constructed, as plain data that can be stored beside its weights."""

from __future__ import annotations

import warnings
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import torch
from pydantic import Field, JsonValue, TypeAdapter, ValidationError, model_validator
from torch import nn

from compresslab.errors import ModelError
from compresslab.models.blocks import REMOVED, remove_blocks
from compresslab.models.factorised import FACTORISED, factorise
from compresslab.models.hf_net import HfTask, build_hf, require_own_code
from compresslab.models.hf_towers import is_tower
from compresslab.models.mlp import Mlp
from compresslab.models.residual import Residual
from compresslab.models.sentence_net import DenseLayer, Pooling, build_sentence
from compresslab.models.signature import Reads
from compresslab.models.static_net import StaticEncoder
from compresslab.models.timm_names import require_local
from compresslab.models.timm_net import build_timm
from compresslab.settings import Settings
from compresslab.user_code import call, canonical_name, source_digest

if TYPE_CHECKING:
    from collections.abc import Collection


class _Builder(Settings):
    removed: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Blocks that are deleted once the network is built, as it numbers them then; see `models.blocks`."""

    factorised: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    """Embeddings that are the product of two, and the rank of each; see `models.factorised`."""

    def plain(self) -> dict[str, Any]:
        """The data that is stored; `removed` and `factorised` are in it only where something was."""
        unused = {name for name in (REMOVED, FACTORISED) if not getattr(self, name)}
        return self.model_dump(mode="json", exclude=unused)


class ResidualBuilder(_Builder):
    """A built-in residual network."""

    kind: Literal["residual"] = "residual"
    residual: Residual
    classes: int = Field(ge=1)
    in_channels: int = Field(ge=1)


class MlpBuilder(_Builder):
    """Built-in fully connected layers, and the units that they answer in."""

    kind: Literal["mlp"] = "mlp"
    mlp: Mlp
    outputs: int = Field(ge=1)
    inputs: int = Field(ge=1)
    center: float = 0.0
    scale: float = Field(1.0, gt=0)


class PythonBuilder(_Builder):
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


class TimmBuilder(_Builder):
    """A network of timm's, by its name there."""

    kind: Literal["timm"] = "timm"
    name: str
    classes: int = Field(ge=1)
    in_channels: int = Field(ge=1)
    arguments: dict[str, JsonValue]
    version: str

    @model_validator(mode="after")
    def _check(self) -> TimmBuilder:
        require_local(self.name, self.arguments)
        return self


class HfBuilder(_Builder):
    """A network of transformers', by its configuration: what config.json holds, without where it came from."""

    kind: Literal["hf"] = "hf"
    task: HfTask
    config: dict[str, JsonValue]
    version: str

    @model_validator(mode="after")
    def _check(self) -> HfBuilder:
        require_own_code(self.config)
        return self

    @property
    def outputs(self) -> int:
        """How many classes it tells apart, or how wide its embeddings are."""
        if is_tower(self.task):
            width = self.config.get("projection_dim")
            return width if isinstance(width, int) else 0
        names = self.config.get("id2label")
        return len(names) if isinstance(names, dict) else 0

    @property
    def reads(self) -> Reads:
        """What it is fed."""
        return "images" if self.task in ("image-classification", "image-tower") else "texts"

    @property
    def channels(self) -> int | None:
        """Channels of its images, where the configuration says."""
        channels = self.config.get("num_channels")
        return channels if isinstance(channels, int) else None


class SentenceBuilder(_Builder):
    """A sentence encoder: the configuration of its transformer, and what is done with the hidden states."""

    kind: Literal["sentence"] = "sentence"
    config: dict[str, JsonValue]
    pooling: Pooling
    dense: Annotated[tuple[DenseLayer, ...], Field(strict=False)] = ()
    normalize: bool
    version: str

    @model_validator(mode="after")
    def _check(self) -> SentenceBuilder:
        require_own_code(self.config)
        if not isinstance(self.config.get("pad_token_id"), int):
            raise ValueError("the configuration has no `pad_token_id`, so nothing says where a text ends")
        return self


class StaticBuilder(_Builder):
    """A sentence encoder that is a table of token vectors."""

    kind: Literal["static"] = "static"
    tokens: int = Field(ge=1)
    width: int = Field(ge=1)
    pad_id: int = Field(ge=0)


AnyBuilder: TypeAlias = (
    ResidualBuilder | MlpBuilder | TimmBuilder | HfBuilder | SentenceBuilder | StaticBuilder | PythonBuilder
)

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
        ModelError: The user's function is not among `trusted`, or does not return a network; a library is missing or
            cannot build it; blocks that were removed, or embeddings that were factorised, are not there.
        BadInput: It cannot be found, or fails.
    """
    module = _whole(builder, trusted)
    factorise(module, builder.factorised)
    try:
        remove_blocks(module, builder.removed)
    except ModelError as error:
        raise ModelError(
            f"blocks were removed from this network when it was saved, but {error}: the code that builds it has changed"
        ) from error
    return module.eval()


def construct_again(builder: AnyBuilder, trusted: Collection[str]) -> nn.Module:
    """Like `construct`, but leaves torch's generator as it was: the weights will be replaced anyway.

    Warns when the code is no longer what the network was first built with: another source of the user's, or another
    version of the library.
    """
    with torch.random.fork_rng(devices=[]):
        module = construct(builder, trusted)
    changed = None
    if isinstance(builder, PythonBuilder):
        function = _trusted(builder, trusted)
        if source_digest(function) != builder.source:
            changed = f"{function}: the code has changed since this network was saved"
    elif isinstance(builder, TimmBuilder | HfBuilder | SentenceBuilder):
        library = "timm" if isinstance(builder, TimmBuilder) else "transformers"
        here = version(library)
        if here != builder.version:
            changed = f"this network was saved with {library} {builder.version}, and {here} builds it now"
    if changed is not None:
        warnings.warn(f"{changed}; if its forward did, so do the outputs", stacklevel=2)
    return module


def _whole(builder: AnyBuilder, trusted: Collection[str]) -> nn.Module:
    if isinstance(builder, ResidualBuilder):
        return builder.residual.build(builder.classes, builder.in_channels)
    if isinstance(builder, MlpBuilder):
        return builder.mlp.build(builder.outputs, builder.inputs, builder.center, builder.scale)
    if isinstance(builder, TimmBuilder):
        return build_timm(builder.name, builder.classes, builder.in_channels, builder.arguments)
    if isinstance(builder, HfBuilder):
        return build_hf(builder.task, builder.config)
    if isinstance(builder, SentenceBuilder):
        return build_sentence(builder.config, builder.pooling, builder.dense, builder.normalize)
    if isinstance(builder, StaticBuilder):
        return StaticEncoder(builder.tokens, builder.width, builder.pad_id)
    function = _trusted(builder, trusted)
    module = call(function, builder.arguments)
    if not isinstance(module, nn.Module):
        raise ModelError(f"{function}: must return a torch.nn.Module, but returned a {type(module).__name__}")
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
