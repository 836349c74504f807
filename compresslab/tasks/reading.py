"""Whose tokenizer a network reads with: its own, or the task's."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from compresslab.candidate import TorchModel
    from compresslab.tasks.task import Task


def reading_as(model: TorchModel, task: Task) -> TorchModel:
    """The network with a preprocessing of its own only where that differs from the task's.

    How much is read of a long text, and what is done with the rest, the task says.
    """
    own, how = model.preprocessing, task.preprocessing
    if own is None or own.kind != "text" or how.kind != "text":
        return model
    update = {"max_length": min(own.max_length, how.max_length), "truncate": how.truncate}
    as_asked = own.model_copy(update=update)
    return replace(model, preprocessing=None if as_asked == how else as_asked)
