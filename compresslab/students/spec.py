"""What a pipeline says under `student`: any network, or one that is made of the teacher."""

from __future__ import annotations

from pydantic import model_validator

from compresslab.models import ModelSpec
from compresslab.models.spec import SOURCES
from compresslab.one_of import the_one
from compresslab.students.settings import FromTeacher, Static

_OWN = ("arguments", "weights", "classes", "pooling", "normalize", "image", "text")


class StudentSpec(ModelSpec):
    """A network, or `from_teacher` or `static`, which are made of the teacher's weights."""

    from_teacher: FromTeacher | None = None
    """The teacher with fewer or narrower layers, or fewer tokens: it starts near the teacher, which decides how near it
    ends."""
    static: Static | None = None
    """A table of the teacher's outputs for each token: the fastest that there is, and what any other must beat."""

    image: StudentSpec | None = None
    """The student of the image tower, of a model of two."""
    text: StudentSpec | None = None
    """The student of the text tower, of a model of two."""

    @model_validator(mode="after")
    def _check_one_source(self) -> StudentSpec:
        if not self.derived:
            self._check_network()
            return self
        kind = the_one(self, (*SOURCES, "from_teacher", "static"))
        beside = [name for name in _OWN if getattr(self, name)]
        if beside:
            raise ValueError(f"`{beside[0]}` is that of another network; leave it out beside `{kind}`")
        return self

    @property
    def derived(self) -> bool:
        """Whether it is made of the teacher."""
        return self.from_teacher is not None or self.static is not None
