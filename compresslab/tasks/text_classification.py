"""Texts into classes: where they come from, how they are split, and how the network reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from compresslab.data.splits import require_every_class
from compresslab.data.texts import classes
from compresslab.errors import DataError
from compresslab.measure.metric_names import ClassMetric
from compresslab.tasks.objective import Classes
from compresslab.tasks.text_data import TextData, preprocessing_of, source_of, text_task

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np

    from compresslab.models.text_reading import TextReading
    from compresslab.store import Store
    from compresslab.tasks.task import Split, Task


class TextClassification(TextData):
    """Exactly one source of texts with a class each."""

    label: str = Field("label", min_length=1)
    """The column, or key, of the classes: names, or numbers from 0."""
    metric: ClassMetric = "accuracy"
    """What quality means."""

    def load(self, cache: Path, model: TextReading | None = None, store: Store | None = None) -> Task:
        """Reads the data, splits it, and proves that the splits share nothing.

        Args:
            cache: Folder for what is fetched.
            model: What the folder of the pipeline's `model` says of reading texts.
            store: Where ids of tokens and many texts are kept; None for all in memory.

        Raises:
            DataError: The data or the tokenizer is missing, broken, or cannot be used as asked.
            ModelError: The model does not fit the tokenizer.
        """
        how = preprocessing_of(self, model)
        source = source_of(self, self.label, "labels", cache, store)
        labels, targets = classes(source.parts, None if model is None else model.labels)
        if len(labels) < 2:
            raise DataError(f"{source.name}: there must be at least two classes, but got {list(labels)}")

        def asked(_: Mapping[str, Split], rows: np.ndarray) -> Classes:
            require_every_class(targets["train"][rows], labels, "train")
            return Classes(labels)

        return text_task(self, how, source, targets, targets["train"], self.metric, asked, store)
