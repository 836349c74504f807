"""What a pipeline says under `task`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import model_validator

from compresslab.one_of import the_one
from compresslab.settings import Settings
from compresslab.tasks.embedding import EmbeddingTask
from compresslab.tasks.image_classification import ImageClassification
from compresslab.tasks.regression import Regression

if TYPE_CHECKING:
    from pathlib import Path

    from compresslab.tasks.task import Task


class TaskSpec(Settings):
    """Exactly one kind of task."""

    image_classification: ImageClassification | None = None
    """Images into classes."""
    regression: Regression | None = None
    """Features to one number."""
    embedding: EmbeddingTask | None = None
    """Features to embeddings, for retrieval."""

    @model_validator(mode="after")
    def _check_one_task(self) -> TaskSpec:
        the_one(self, tuple(TaskSpec.model_fields))
        return self

    def load(self, cache: Path) -> Task:
        """The task with its data; `cache` keeps what is fetched and decoded.

        Raises:
            DataError: The data is missing, broken, or cannot be split as asked.
        """
        if self.image_classification is not None:
            return self.image_classification.load(cache)
        if self.embedding is not None:
            return self.embedding.load()
        assert self.regression is not None, "exactly one task is given"
        return self.regression.load()
