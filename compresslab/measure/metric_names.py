"""Which metrics there are, and of what kind of answer: known without loading what computes them."""

from __future__ import annotations

from typing import Final, Literal, get_args

ClassMetric = Literal["accuracy", "f1_macro"]
"""Metrics of a model that answers with one of several classes."""
ScoreMetric = Literal["spearman", "pearson", "r2"]
"""Metrics of a model that answers with a number."""

CLASS_METRICS: Final[tuple[str, ...]] = get_args(ClassMetric)
SCORE_METRICS: Final[tuple[str, ...]] = get_args(ScoreMetric)
METRIC_NAMES: Final = CLASS_METRICS + SCORE_METRICS
"""More is better in all of them: whatever chooses (budget, frontier, selection) relies on it."""
