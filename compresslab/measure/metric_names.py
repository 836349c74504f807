"""Which metrics there are, and of what kind of answer: known without loading what computes them."""

from __future__ import annotations

from typing import Final, Literal, get_args

ClassMetric = Literal["accuracy", "f1_macro"]
"""Metrics of a model that answers with one of several classes."""
ScoreMetric = Literal["spearman", "pearson", "r2"]
"""Metrics of a model that answers with a number."""
EmbeddingMetric = Literal["recall@1", "recall@5", "recall@10", "ndcg@10", "similarity"]
"""Metrics of a model that answers with an embedding: of retrieval by cosine, and of pairs that have a score."""

CLASS_METRICS: Final[tuple[str, ...]] = get_args(ClassMetric)
SCORE_METRICS: Final[tuple[str, ...]] = get_args(ScoreMetric)
EMBEDDING_METRICS: Final[tuple[str, ...]] = get_args(EmbeddingMetric)
RETRIEVAL_METRICS: Final = tuple(name for name in EMBEDDING_METRICS if "@" in name)
BOTH_WAYS: Final = "both_"
"""Stands before a metric of retrieval that is the mean of both directions between two towers; results leave it out."""
METRIC_NAMES: Final = CLASS_METRICS + SCORE_METRICS
"""Those that a budget limits by a key of their own; of embeddings it limits `retention`.

More is better in all metrics: whatever chooses (budget, frontier, selection) relies on it.
"""


def shown(metric: str) -> str:
    """What results call a metric."""
    return metric.removeprefix(BOTH_WAYS)
