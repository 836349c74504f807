"""The one thing that flows through a pipeline: a model and how it came to be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from compresslab.digest import digest_of
from compresslab.errors import ModelError

if TYPE_CHECKING:
    from torch import nn

    from compresslab.measure.preprocessing import Preprocessing


@dataclass(frozen=True)
class Step:
    """One stage that was applied: what was asked (`settings`), what it decided, and a digest of all that made it."""

    kind: str
    settings: Mapping[str, Any]
    decisions: Mapping[str, Any]
    digest: str


@dataclass(frozen=True)
class TorchModel:
    """A network, and in `builder` the plain data that builds it again (see `models.architecture`).

    `builder` is None where nothing builds it again: a converted INT8 network, which is kept as ONNX alone. `simulated`
    is then the fake-quantized network that it was converted from, which the ONNX file is held against. `preprocessing`
    is that of a network with a tokenizer of its own; None reads as the task says.
    """

    module: nn.Module
    builder: Mapping[str, Any] | None
    simulated: nn.Module | None = None
    preprocessing: Preprocessing | None = None


@dataclass(frozen=True)
class OnnxModel:
    """An ONNX file made by a quantizer that works on graphs; no training stage may follow.

    `preprocessing` is as a TorchModel's.
    """

    path: Path
    preprocessing: Preprocessing | None = None


@dataclass(frozen=True)
class Towers:
    """Networks that embed in one space, by name: the graphs of one artifact, such as `image` and `text`."""

    towers: Mapping[str, TorchModel | OnnxModel]


Model: TypeAlias = TorchModel | OnnxModel | Towers


@dataclass(frozen=True)
class Candidate:
    """A model and its lineage, oldest step first. Stages return new ones and never edit their argument."""

    model: Model
    lineage: tuple[Step, ...] = field(default=())

    @property
    def network(self) -> TorchModel:
        """The model, where it must be a torch network.

        Raises:
            ModelError: A quantizer has made an ONNX graph of it, or it is several networks.
        """
        if isinstance(self.model, Towers):
            raise ModelError(f"this model is several networks, {', '.join(self.model.towers)}; take one, by `tower`")
        if isinstance(self.model, OnnxModel):
            raise ModelError("this model is an ONNX graph already, and cannot be trained, pruned or converted again")
        return self.model

    def tower(self, name: str) -> Candidate:
        """One of several networks as a candidate of its own, with the lineage of all."""
        assert isinstance(self.model, Towers), "there are several networks"
        return Candidate(self.model.towers[name], self.lineage)

    @property
    def digest(self) -> str:
        """Identifies the candidate by everything that made it."""
        return digest_of([step.digest for step in self.lineage])

    def then(self, model: Model, step: Step) -> Candidate:
        """This candidate after one more step."""
        return Candidate(model, (*self.lineage, step))
