"""What a pipeline says under `teacher`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from compresslab.models import ModelSpec
from compresslab.models.spec import SOURCES
from compresslab.one_of import the_one
from compresslab.settings import FilePath

_OTHER = ("predictions", "average", "best_of")


class TeacherSpec(ModelSpec):
    """A network, or `predictions`, or several teachers as `average` or `best_of`."""

    predictions: FilePath | None = None
    """An .npz file with outputs for each part of the data (`train`, and `validation`, `test`, `transfer` where the
    source has them), in the source's own order: so anything can teach. Logits, for classes; not for augmented data."""
    average: Annotated[tuple[TeacherSpec, ...], Field(strict=False, min_length=2)] | None = None
    """Teachers that answer with the weighted mean of their logits."""
    best_of: Annotated[tuple[TeacherSpec, ...], Field(strict=False, min_length=2)] | None = None
    """Teachers of which the best on validation is taken; the largest one is not always the best."""
    weight: float = Field(1.0, gt=0)
    """Of this teacher inside an `average`."""

    @model_validator(mode="after")
    def _check_one_source(self) -> TeacherSpec:
        if self.towers:
            self._check_network()
            return self
        given = [name for name in (*SOURCES, *_OTHER) if getattr(self, name) is not None]
        if given and self.network:
            self._check_network()
            return self
        kind = the_one(self, (*SOURCES, *_OTHER))
        if self.weights is not None or self.arguments:
            raise ValueError(f"`weights` and `arguments` are those of a network; leave them out beside `{kind}`")
        if any(one.weight != 1.0 for one in self.best_of or ()):
            raise ValueError("`weight` is that of a teacher inside an `average`; leave it out of `best_of`")
        return self

    @property
    def network(self) -> bool:
        """Whether this is one network."""
        return all(getattr(self, name) is None for name in _OTHER)

    def untrained(self, path: str) -> list[str]:
        """Paths of networks without weights, of which nothing can be learned; `path` is this one's."""
        if self.network:
            return [] if self.has_weights else [path]
        name = "average" if self.average is not None else "best_of"
        inside = [member.untrained(f"{path}.{name}[{index}]") for index, member in enumerate(self.members)]
        return [found for one in inside for found in one]

    @property
    def members(self) -> tuple[TeacherSpec, ...]:
        """The teachers of an `average` or `best_of`."""
        return self.average or self.best_of or ()

    @property
    def trusted(self) -> tuple[str, ...]:
        """The user's own functions that may be run to build these networks again."""
        own = super().trusted
        return (*own, *(name for member in self.members for name in member.trusted))
