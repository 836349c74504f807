"""Texts to one number: where they come from, how they are split, and how the network reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from compresslab.data.augmentation import Augmentation
from compresslab.data.texts import scores
from compresslab.measure.metric_names import ScoreMetric
from compresslab.tasks.regression import require_spread, score_objective, score_strata
from compresslab.tasks.task import Task
from compresslab.tasks.text_data import (
    TextData,
    length_notes,
    preprocessing_of,
    source_of,
    task_name,
    text_splits,
    unlabelled,
)
from compresslab.tasks.tokens import Tokens

if TYPE_CHECKING:
    from pathlib import Path

    from compresslab.models.text_reading import TextReading


class TextRegression(TextData):
    """Exactly one source of texts with a number each, which the network learns to predict."""

    target: str = Field("score", min_length=1)
    """The column, or key, of the numbers; the model card calls them so."""
    metric: ScoreMetric = "spearman"
    """What quality means: a rank correlation, Pearson's, or the share of the targets' variance that is explained."""

    def load(self, cache: Path, model: TextReading | None = None) -> Task:
        """Reads the data, splits it, and proves that the splits share nothing.

        Args:
            cache: Folder for what is fetched.
            model: What the folder of the pipeline's `model` says of reading texts.

        Raises:
            DataError: The data or the tokenizer is missing, broken, or cannot be used as asked.
            ModelError: The model does not fit the tokenizer.
        """
        how = preprocessing_of(self, model)
        source = source_of(self, self.target, "targets", cache)
        targets = {part: scores(rows) for part, rows in source.parts.items()}
        texts = {part: rows.texts for part, rows in {**source.parts, **unlabelled(self)}.items()}
        splits, notes, rows = text_splits(source.name, texts, targets, score_strata(targets["train"]), self)
        for name in ("train", "validation", "test"):
            require_spread(source.name, splits[name])
        tokens = Tokens()
        return Task.of(
            name=task_name(self, source.name),
            objective=score_objective(self.target, targets["train"][rows]),
            splits=splits,
            preprocessing=how,
            augmentation=Augmentation(),
            metric=self.metric,
            notes=(*notes, *length_notes(splits, how, tokens)),
            tokens=tokens,
        )
