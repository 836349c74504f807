"""Which metrics there are, and of what kind of answer: known without loading what computes them."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeAlias, get_args

from pydantic import AfterValidator, Discriminator, Field, Tag, ValidationInfo

from compresslab.user_code import beside_the_file

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
METRIC_NAMES: Final = CLASS_METRICS + SCORE_METRICS
"""Those that a budget limits by a key of their own; of embeddings it limits `retention`.

More is better in all metrics: whatever chooses (budget, frontier, selection) relies on it.
"""

OWN: Final = "python:"
"""What a metric of the user's own begins with: `python:module:function`."""


def label_of(metric: str) -> str:
    """What results and budgets call a metric: its name, or that of the user's function."""
    return metric.rpartition(":")[2] if metric.startswith(OWN) else metric


def _located(value: str, info: ValidationInfo) -> str:
    reference = beside_the_file(value.removeprefix(OWN), info)
    if label_of(value) in METRIC_NAMES:
        raise ValueError(f"a metric of your own needs a name of its own, but `{label_of(value)}` is built in; rename "
                         "the function")  # fmt: skip
    return OWN + reference


def _tag(value: Any) -> str:
    return "own" if isinstance(value, str) and value.startswith(OWN) else "known"


OwnMetric = Annotated[str, Field(pattern=f"^{OWN}", examples=["python:module:function"]), AfterValidator(_located)]
"""`python:module:function` of the user's own, which takes `outputs` [n, outputs] and `targets` [n]; more is better."""
AnyClassMetric: TypeAlias = Annotated[
    Annotated[ClassMetric, Tag("known")] | Annotated[OwnMetric, Tag("own")], Discriminator(_tag)
]
AnyScoreMetric: TypeAlias = Annotated[
    Annotated[ScoreMetric, Tag("known")] | Annotated[OwnMetric, Tag("own")], Discriminator(_tag)
]
