"""Texts to one number: where they come from, how they are split, and how the network reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from compresslab.data.texts import scores
from compresslab.measure.metric_names import ScoreMetric
from compresslab.tasks.regression import require_spread, score_objective, score_strata
from compresslab.tasks.text_data import TextData, preprocessing_of, source_of, text_task

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np

    from compresslab.models.text_reading import TextReading
    from compresslab.store import Store
    from compresslab.tasks.objective import Score
    from compresslab.tasks.task import Split, Task


class TextRegression(TextData):
    """Exactly one source of texts with a number each, which the network learns to predict."""

    target: str = Field("score", min_length=1)
    """The column, or key, of the numbers; the model card calls them so."""
    metric: ScoreMetric = "spearman"
    """What quality means: a rank correlation, Pearson's, or the share of the targets' variance that is explained."""

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
        source = source_of(self, self.target, "targets", cache, store)
        targets = {part: scores(rows) for part, rows in source.parts.items()}

        def asked(splits: Mapping[str, Split], rows: np.ndarray) -> Score:
            for name in ("train", "validation", "test"):
                require_spread(source.name, splits[name])
            return score_objective(self.target, targets["train"][rows])

        return text_task(self, how, source, targets, score_strata(targets["train"]), self.metric, asked, store)
