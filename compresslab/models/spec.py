"""What a pipeline says under `model`, `teacher` and `student`. Needs no torch until a network is built."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, JsonValue, model_validator

from compresslab.errors import ModelError
from compresslab.models.residual import Residual
from compresslab.one_of import the_one
from compresslab.settings import FilePath, Settings
from compresslab.user_code import CodeReference

if TYPE_CHECKING:
    from compresslab.candidate import TorchModel


class ModelSpec(Settings):
    """A network: exactly one of `residual`, `checkpoint` and `python`, and perhaps weights for it."""

    residual: Residual | None = None
    """A built-in residual network, new unless `weights` are given."""
    checkpoint: FilePath | None = None
    """A folder with weights.safetensors and architecture.json, such as every stage of a run leaves."""
    python: CodeReference | None = None
    """`module:function` of your own, which returns a torch.nn.Module. Beside `checkpoint`: the code that built the
    network in it, which is not run unless it is named here."""
    arguments: dict[str, JsonValue] = Field(default_factory=dict)
    """Keyword arguments of the `python` function."""
    weights: FilePath | None = None
    """A .safetensors file, or a .pt file with a state dict, for `residual` or `python`."""

    @model_validator(mode="after")
    def _check_one_source(self) -> ModelSpec:
        self._check_network()
        return self

    def _check_network(self) -> None:
        if self.checkpoint is not None and self.python is not None:
            the_one(self, ("residual", "checkpoint"))
        else:
            the_one(self, ("residual", "checkpoint", "python"))
        if self.arguments and (self.python is None or self.checkpoint is not None):
            raise ValueError("`arguments` are those of a `python` function without a `checkpoint`, which has its own")
        if self.weights is not None and self.checkpoint is not None:
            raise ValueError("`checkpoint` has weights of its own; leave out `weights`")

    @property
    def has_weights(self) -> bool:
        """Whether the network may be trained already; that of a `python` function is taken to be."""
        return self.residual is None or self.weights is not None

    @property
    def trusted(self) -> tuple[str, ...]:
        """The user's own functions that may be run to build this network again."""
        return () if self.python is None else (self.python,)

    def build(self, classes: int, in_channels: int) -> TorchModel:
        """The network, in eval mode. New weights are drawn from torch's generator.

        Args:
            classes: Labels of the task.
            in_channels: Channels of its images.

        Raises:
            ModelError: The files are missing, damaged or for another network, or the classes or channels differ.
            BadInput: The `python` function cannot be found, or fails.
        """
        from compresslab.candidate import TorchModel
        from compresslab.models.architecture import load
        from compresslab.models.builder import PythonBuilder, ResidualBuilder, construct, read_builder
        from compresslab.models.weights import load_weights

        builder: ResidualBuilder | PythonBuilder
        if self.checkpoint is not None:
            model = load(Path(self.checkpoint), self.trusted)
            builder = read_builder(model.builder, self.checkpoint)
            if isinstance(builder, ResidualBuilder):
                _require_same(self.checkpoint, builder.classes, classes, "classes")
                _require_same(self.checkpoint, builder.in_channels, in_channels, "channels")
            return model
        if self.residual is not None:
            builder = ResidualBuilder(residual=self.residual, classes=classes, in_channels=in_channels)
        else:
            assert self.python is not None, "exactly one is given"
            builder = PythonBuilder.of(self.python, self.arguments)
        module = construct(builder, self.trusted)
        if self.weights is not None:
            load_weights(module, Path(self.weights))
        return TorchModel(module, builder.model_dump(mode="json"))


def _require_same(where: str, found: int, wanted: int, what: str) -> None:
    if found != wanted:
        raise ModelError(f"{where}: the network is for {found} {what}, but the task has {wanted}; give one that was "
                         "trained for this task")  # fmt: skip
