"""Features to one number: where the data comes from, how it is split, and what the network reads of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field, model_validator

from compresslab.data.augmentation import Augmentation
from compresslab.data.features import (
    Scores,
    TableSource,
    load_table_npz,
    load_table_python,
    unlabelled_features,
)
from compresslab.data.identity import ids_of, sample_hashes
from compresslab.data.splits import prove_disjoint
from compresslab.errors import DataError
from compresslab.measure.metric_names import ScoreMetric
from compresslab.one_of import the_one
from compresslab.settings import FilePath, Settings
from compresslab.tasks.benchmark import content_digest
from compresslab.tasks.objective import Score
from compresslab.tasks.places import Amount, Place, places
from compresslab.tasks.standardising import feature_preprocessing, rounded
from compresslab.tasks.task import Split, Task
from compresslab.user_code import CodeReference

if TYPE_CHECKING:
    import numpy.typing as npt

SOURCES = ("npz", "python")

# Groups of targets that every split gets its share of: so many, and no smaller than this on average.
_STRATA, _SMALLEST_STRATUM = 10, 20


class Regression(Settings):
    """Exactly one source of rows of features with a number each, which the network learns to predict."""

    npz: FilePath | None = None
    """A file with the arrays `features` [n, d] (float32) and `targets` [n], and perhaps `validation_features`,
    `validation_targets`, `test_features`, `test_targets`."""
    python: CodeReference | None = None
    """`module:function` of your own, which returns the same names as an .npz file has."""
    transfer: FilePath | None = None
    """Unlabelled samples to distil on as well: an .npz file with `features`."""
    calibration_data: FilePath | None = None
    """Unlabelled samples that set quantization ranges, instead of a part of the training data: an .npz file with
    `features`."""
    name: str | None = Field(None, pattern=r"^[^/\s]+$")
    """What results call it; null takes the name of the source."""
    target_name: str = Field("target", min_length=1)
    """What the number is, as the model card calls it."""
    standardise: bool = True
    """Whether each feature is centred and divided by its deviation over the training data. Better off for sparse ones,
    such as counts of words: a rare feature would become a huge one."""
    metric: ScoreMetric = "spearman"
    """What quality means: a rank correlation, Pearson's, or the share of the targets' variance that is explained."""
    validation: Amount | None = None
    """What all decisions are made on. Null takes the source's own, or 10 % of the training data, at most 5,000."""
    calibration: Amount | None = None
    """What sets quantization ranges and importance scores. Null takes 5 % of the training data, at most 1,000."""
    test: Amount | None = None
    """What results are reported on. Null takes the source's own, or 15 % of the training data, at most 10,000."""
    split_seed: int = 0
    """Another one gives other splits."""

    @model_validator(mode="after")
    def _check_one_source(self) -> Regression:
        the_one(self, SOURCES)
        return self

    def load(self) -> Task:
        """Reads the data, splits it, and proves that the splits share nothing.

        Raises:
            BadInput: The `python` function cannot be found, or fails.
            DataError: The data is missing, broken, or cannot be split as asked.
        """
        source = self._source()
        features = {part: table.inputs for part, table in source.parts.items()}
        for part, path in (("transfer", self.transfer), ("calibration", self.calibration_data)):
            if path is not None:
                features[part] = unlabelled_features(Path(path), features["train"].shape[1])
        hashes = {part: sample_hashes(inputs) for part, inputs in features.items()}
        ids = {part: ids_of(one) for part, one in hashes.items()}
        wanted = {"validation": self.validation, "calibration": self.calibration, "test": self.test}
        found, notes = places(source.name, ids, score_strata(source.train.targets), wanted, self.split_seed, "samples")

        def made(split: str, place: Place) -> Split:
            table = source.parts.get(place.part)
            targets = None if table is None else table.targets[place.rows]
            inputs, chosen = features[place.part][place.rows], hashes[place.part][place.rows]
            digest = content_digest(inputs, targets, chosen)
            return Split(split, inputs, targets, ids_of(chosen), digest, place.part, place.rows, place.size)

        splits = {split: made(split, place) for split, place in found.items()}
        prove_disjoint({split: part.ids for split, part in splits.items()}, "samples")
        for name in ("train", "validation", "test"):
            require_spread(source.name, splits[name])
        train = found["train"].rows
        return Task.of(
            name=self.name or re.sub(r"[^\w.-]+", "_", source.name),
            objective=score_objective(self.target_name, source.train.targets[train]),
            splits=splits,
            preprocessing=feature_preprocessing(source.train.inputs[train], self.standardise),
            augmentation=Augmentation(),
            metric=self.metric,
            notes=notes,
        )

    def _source(self) -> TableSource:
        if self.npz is not None:
            return load_table_npz(Path(self.npz))
        assert self.python is not None, "exactly one source is given"
        return load_table_python(self.python)


def score_strata(targets: Scores) -> npt.NDArray[np.int64]:
    """Groups of about equally many samples, by their targets: no split shall have only the high ones."""
    groups = max(1, min(_STRATA, len(targets) // _SMALLEST_STRATUM))
    edges = np.quantile(targets, np.arange(1, groups) / groups)
    return np.searchsorted(edges, targets, side="right").astype(np.int64)


def require_spread(source: str, split: Split) -> None:
    """Refuses a split all of whose targets are the same.

    Raises:
        DataError: They are.
    """
    targets = split.targets
    assert targets is not None, "sources are labelled"
    if targets.min() == targets.max():
        raise DataError(
            f"{source}: all {len(targets)} targets of `{split.name}` are {float(targets[0]):g}, so there is nothing to "
            "learn and no correlation to measure; give targets that differ, or a larger split"
        )


def score_objective(target: str, train: Scores) -> Score:
    """The objective for training targets [n]: their mean and deviation are its units."""
    exact = train.astype(np.float64)
    return Score(target, rounded(exact.mean()), rounded(exact.std()))
