"""What a pipeline says under `task`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import model_validator

from compresslab.data.pairs import IMAGES, TEXTS
from compresslab.models.image_reading import image_reading
from compresslab.models.text_reading import text_reading
from compresslab.one_of import the_one
from compresslab.settings import Settings
from compresslab.tasks.cross_modal import CrossModal
from compresslab.tasks.embedding import EmbeddingTask
from compresslab.tasks.image_classification import ImageClassification
from compresslab.tasks.regression import Regression
from compresslab.tasks.text_classification import TextClassification
from compresslab.tasks.text_embedding import TextEmbedding
from compresslab.tasks.text_regression import TextRegression

if TYPE_CHECKING:
    from pathlib import Path

    from compresslab.models import ModelSpec
    from compresslab.store import Store
    from compresslab.tasks.task import Task
    from compresslab.tasks.towers_task import TowersTask


class TaskSpec(Settings):
    """Exactly one kind of task."""

    image_classification: ImageClassification | None = None
    """Images into classes."""
    regression: Regression | None = None
    """Features to one number."""
    cross_modal: CrossModal | None = None
    """Images and texts in one space, for retrieval both ways."""
    embedding: EmbeddingTask | None = None
    """Features to embeddings, for retrieval."""
    text_classification: TextClassification | None = None
    """Texts into classes."""
    text_regression: TextRegression | None = None
    """Texts to one number."""
    text_embedding: TextEmbedding | None = None
    """Texts to embeddings, for retrieval."""

    @model_validator(mode="after")
    def _check_one_task(self) -> TaskSpec:
        the_one(self, tuple(TaskSpec.model_fields))
        return self

    def load(self, cache: Path, model: ModelSpec | None = None, store: Store | None = None) -> Task | TowersTask:
        """The task with its data.

        Args:
            cache: Keeps what is fetched and decoded.
            model: The pipeline's, in whose folder a tokenizer may lie, and names for its outputs.
            store: Where ids of tokens and many texts are kept; None for all in memory.

        Raises:
            DataError: The data is missing, broken, or cannot be split as asked.
            ModelError: A task on texts does not fit the model.
        """
        if self.cross_modal is not None:
            towers = {} if model is None else model.towers
            image, text = towers.get(IMAGES), towers.get(TEXTS)
            return self.cross_modal.load(
                cache,
                None if text is None else text_reading(text, tower=True),
                None if image is None else image_reading(image),
                store,
            )
        texts = self.text_classification or self.text_regression or self.text_embedding
        if texts is not None:
            return texts.load(cache, None if model is None else text_reading(model), store)
        if self.image_classification is not None:
            return self.image_classification.load(cache)
        if self.embedding is not None:
            return self.embedding.load()
        assert self.regression is not None, "exactly one task is given"
        return self.regression.load()
