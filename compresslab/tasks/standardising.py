"""How rows of features become inputs: the numbers that centre and scale them, taken from the training data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from compresslab.measure.preprocessing import FeaturePreprocessing

if TYPE_CHECKING:
    from compresslab.data.features import Features

# Digits that are kept of means and deviations: as many as a float32 has.
_DIGITS = 7


def feature_preprocessing(train: Features, standardise: bool) -> FeaturePreprocessing:
    """For features like these [n, d]: centred and divided by their deviation, or as they are."""
    if not standardise:
        return FeaturePreprocessing(width=train.shape[1])
    mean, std = train.mean(axis=0, dtype=np.float64), train.std(axis=0, dtype=np.float64)
    # A feature that never changes carries nothing; it must not divide by zero, nor by the rounding of its mean.
    std[train.min(axis=0) == train.max(axis=0)] = 1.0
    return FeaturePreprocessing(
        width=train.shape[1],
        mean=tuple(rounded(value) for value in mean),
        std=tuple(rounded(value) for value in std),
    )


def rounded(value: float) -> float:
    """As many digits as a float32 has."""
    return float(f"{value:.{_DIGITS}g}")
