"""distill: a student learns from the teacher, and from the labels."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, field_validator

from compresslab.distillation import Recipe, checks, control_of, learn, validation_score
from compresslab.distillation.reduction import told as reduction_told
from compresslab.errors import ModelError
from compresslab.models import ModelSpec
from compresslab.students import Derived, StudentSpec, make_student
from compresslab.tasks.cross_modal import Transfer

if TYPE_CHECKING:
    from compresslab.candidate import Candidate, TorchModel
    from compresslab.stage import Context


class Distill(Recipe):
    """Trains `student`, or the incoming network where none is given, with the teacher."""

    kind: ClassVar[str] = "distill"
    version: ClassVar[int] = 2

    epochs: int = Field(30, ge=1)
    """Passes over the training split."""
    student: StudentSpec | None = Field(None, strict=False)
    """The network that learns; it starts anew. Null goes on with the incoming one."""
    transfer: Transfer | None = None
    """Of a model of two towers, images and texts without a partner to distil on as well: `[{images: FOLDER}, {text:
    FILE}]`. They become the task's own `transfer`, so that every later training reads them too."""
    control: bool = False
    """Also trains the same student without the teacher at the same cost, and reports what the teacher was worth."""

    @field_validator("student", mode="before")
    @classmethod
    def _any_network(cls, student: object) -> object:
        """A plain ModelSpec, in Python, says all that a student needs."""
        if isinstance(student, ModelSpec) and not isinstance(student, StudentSpec):
            return StudentSpec.model_validate(student.model_dump())
        return student

    @property
    def recipe(self) -> Recipe:
        """How the student is trained."""
        return Recipe(**self.model_dump(exclude={"student", "transfer", "control"}))

    def apply(self, candidate: Candidate, context: Context) -> tuple[Candidate, ...]:
        """The student, trained; with `control` also the one that had no teacher.

        Raises:
            ModelError: There is no teacher to learn from.
        """
        if context.teacher is None:
            raise ModelError("`distill` has no teacher; give `teacher`, or weights for `model`")
        recipe = self.recipe
        begun = self._begun(candidate, context)
        start = begun.model
        context = context.reading(start)
        for told in begun.notes:
            context.progress.note(f"student: {told}")
        module = copy.deepcopy(start.module)
        history = learn(module, recipe, context, self.kind)
        decisions: dict[str, Any] = {"loss": [round(epoch.loss, 6) for epoch in history], **begun.decisions}
        decisions |= reduction_told(module, recipe, context)
        if recipe.reads_teacher(context.task):
            share = checks.explained(module, recipe, context)
            decisions["explained"] = round(share, 4)
            for told in (*checks.warnings(recipe, context, share), *self._untried(context)):
                context.progress.note(told)
        made = [candidate.then(replace(start, module=module), context.step(self, decisions))]
        if self.control:
            alone = copy.deepcopy(start.module)
            history = learn(alone, control_of(recipe, context), replace(context, teacher=None), "control")
            decisions = {"control": True, "loss": [round(epoch.loss, 6) for epoch in history]}
            made.append(candidate.then(replace(start, module=alone), context.step(self, decisions, attempt=1)))
        return tuple(made)

    def begin(self, candidate: Candidate, context: Context, epochs: int) -> float:
        """Trains the first `epochs` only, for the choice between settings; returns the quality on validation.

        `apply` with the same context goes on from there.
        """
        start = self.start(candidate, context)
        context = context.reading(start)
        module = copy.deepcopy(start.module)
        learn(module, self.recipe, context, self.kind, until=epochs)
        return validation_score(module, context.task)

    def _untried(self, context: Context) -> Iterator[str]:
        if not self.control:
            yield "no control arm was run, so what the teacher was worth is not known; `control: true` runs one"
        if self.losses is None and self.kd_weight > 0 and context.task.labels and "temperature" not in context.tuned:
            yield (
                f"`temperature: {self.temperature:g}` was not tuned; `temperature: {{tune: [1, 2, 4, 8]}}` chooses it "
                "on validation"
            )

    def start(self, candidate: Candidate, context: Context) -> TorchModel:
        """The network before the training."""
        return self._begun(candidate, context).model

    def _begun(self, candidate: Candidate, context: Context) -> Derived:
        if self.student is None:
            return Derived(candidate.network)
        return make_student(self.student, context.teacher, context.task, context.seed, context.scratch / "student")
