"""What a pipeline says under `model`, `teacher` and `student`. Needs no torch until a network is built."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, JsonValue, model_validator

from compresslab.errors import ModelError
from compresslab.models.mlp import Mlp
from compresslab.models.residual import Residual
from compresslab.one_of import the_one
from compresslab.settings import FilePath, Settings
from compresslab.user_code import CodeReference

if TYPE_CHECKING:
    from compresslab.candidate import TorchModel
    from compresslab.models.builder import AnyBuilder
    from compresslab.models.signature import Reads, Signature

_SAMPLES = {"images": "images", "features": "rows of features"}
_FITTING = {"images": "residual", "features": "mlp"}


class ModelSpec(Settings):
    """A network: exactly one of `residual`, `mlp`, `checkpoint` and `python`, and perhaps weights for it."""

    residual: Residual | None = None
    """A built-in residual network for images, new unless `weights` are given."""
    mlp: Mlp | None = None
    """Built-in fully connected layers for features, new unless `weights` are given."""
    checkpoint: FilePath | None = None
    """A folder with weights.safetensors and architecture.json, such as every stage of a run leaves."""
    python: CodeReference | None = None
    """`module:function` of your own, which returns a torch.nn.Module. Beside `checkpoint`: the code that built the
    network in it, which is not run unless it is named here."""
    arguments: dict[str, JsonValue] = Field(default_factory=dict)
    """Keyword arguments of the `python` function."""
    weights: FilePath | None = None
    """A .safetensors file, or a .pt file with a state dict, for `residual`, `mlp` or `python`."""

    @model_validator(mode="after")
    def _check_one_source(self) -> ModelSpec:
        self._check_network()
        return self

    def _check_network(self) -> None:
        if self.checkpoint is not None and self.python is not None:
            the_one(self, ("residual", "mlp", "checkpoint"))
        else:
            the_one(self, ("residual", "mlp", "checkpoint", "python"))
        if self.arguments and (self.python is None or self.checkpoint is not None):
            raise ValueError("`arguments` are those of a `python` function without a `checkpoint`, which has its own")
        if self.weights is not None and self.checkpoint is not None:
            raise ValueError("`checkpoint` has weights of its own; leave out `weights`")

    @property
    def has_weights(self) -> bool:
        """Whether the network may be trained already; that of a `python` function is taken to be."""
        return (self.residual is None and self.mlp is None) or self.weights is not None

    @property
    def trusted(self) -> tuple[str, ...]:
        """The user's own functions that may be run to build this network again."""
        return () if self.python is None else (self.python,)

    def build(self, signature: Signature, seed: int | None = None) -> TorchModel:
        """The network, in eval mode.

        Args:
            signature: What the task has to be read and answered: `task.signature`.
            seed: New weights are drawn from it alone; None draws them from torch's generator as it is.

        Raises:
            ModelError: The files are missing, damaged or for another network, or it is not one for this task.
            BadInput: The `python` function cannot be found, or fails.
        """
        import torch

        from compresslab.candidate import TorchModel
        from compresslab.models.architecture import load
        from compresslab.models.builder import construct, read_builder
        from compresslab.models.weights import load_weights

        if seed is not None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                return self.build(signature)
        if self.checkpoint is not None:
            model = load(Path(self.checkpoint), self.trusted)
            _require_same(self.checkpoint, read_builder(model.builder, self.checkpoint), signature)
            return model
        builder = self._builder(signature)
        module = construct(builder, self.trusted)
        if self.weights is not None:
            load_weights(module, Path(self.weights))
        return TorchModel(module, builder.model_dump(mode="json"))

    def _builder(self, signature: Signature) -> AnyBuilder:
        from compresslab.models.builder import MlpBuilder, PythonBuilder, ResidualBuilder

        if self.residual is not None:
            _require_reads("`residual`", "images", signature)
            return ResidualBuilder(residual=self.residual, classes=signature.outputs, in_channels=signature.inputs)
        if self.mlp is not None:
            _require_reads("`mlp`", "features", signature)
            return MlpBuilder(
                mlp=self.mlp,
                outputs=signature.outputs,
                inputs=signature.inputs,
                center=signature.center,
                scale=signature.scale,
            )
        assert self.python is not None, "exactly one is given"
        return PythonBuilder.of(self.python, self.arguments)


def _require_reads(what: str, reads: Reads, signature: Signature) -> None:
    if signature.reads != reads:
        raise ModelError(
            f"{what} reads {_SAMPLES[reads]}, but the task's samples are {_SAMPLES[signature.reads]}; give "
            f"`{_FITTING[signature.reads]}`, or a `python` network of your own"
        )


def _require_same(where: str, builder: AnyBuilder, signature: Signature) -> None:
    """Refuses a checkpoint for another task, as far as its builder tells; a `python` network is tried out later."""
    if builder.kind == "residual":
        _require_reads(where, "images", signature)
        _require_equal(where, builder.classes, signature.outputs, "classes")
        _require_equal(where, builder.in_channels, signature.inputs, "channels")
    elif builder.kind == "mlp":
        _require_reads(where, "features", signature)
        _require_equal(where, builder.outputs, signature.outputs, "outputs")
        _require_equal(where, builder.inputs, signature.inputs, "features")


def _require_equal(where: str, found: int, wanted: int, what: str) -> None:
    if found != wanted:
        raise ModelError(f"{where}: the network is for {found} {what}, but the task has {wanted}; give one that was "
                         "trained for this task")  # fmt: skip
