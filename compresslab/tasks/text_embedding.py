"""Texts to embeddings: where queries and their documents come from, and the benchmarks that a student is judged by."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, model_validator

from compresslab.data.grouped import Grouped
from compresslab.data.text_groups import grouped_of_python, pairs_of_file, scored_pairs_of_file
from compresslab.errors import DataError
from compresslab.measure.metric_names import RETRIEVAL_METRICS, EmbeddingMetric
from compresslab.one_of import the_one
from compresslab.settings import FilePath, Settings
from compresslab.tasks.benchmark import Benchmark
from compresslab.tasks.embedding import embedding_task
from compresslab.tasks.objective import Embeddings
from compresslab.tasks.text_data import TextSettings, preprocessing_of, require_ending, unlabelled
from compresslab.tasks.text_notes import split_notes, text_notes
from compresslab.tasks.tokens import Tokens
from compresslab.user_code import CodeReference

if TYPE_CHECKING:
    from compresslab.measure.text_preprocessing import Texts
    from compresslab.models.text_reading import TextReading
    from compresslab.store import Store
    from compresslab.tasks.task import Task

_FILES = ("csv", "jsonl", "parquet")
SOURCES = (*_FILES, "python")
_Name = Annotated[str, Field(pattern=r"^[^/\s]+$")]


class TextPairs(Settings):
    """Exactly one source of texts that belong together."""

    csv: FilePath | None = None
    """A .csv or .tsv file with a pair a row."""
    jsonl: FilePath | None = None
    """A file with a JSON object a line, each a pair."""
    parquet: FilePath | None = None
    """A Parquet file with a pair a row."""
    python: CodeReference | None = None
    """`module:function` of your own, which returns `texts` and `groups` (g for a document of group g, -(g + 1) for a
    query of it) or `scores` (rows 2i and 2i + 1 are a pair, and both have its score), and perhaps the same with
    `validation_` and `test_` before their names."""
    query: str = Field("query", min_length=1)
    """The column of the queries, or of the first text of a scored pair."""
    document: str = Field("document", min_length=1)
    """The column of the documents, or of the second text of a scored pair."""
    score: str = Field("score", min_length=1)
    """The column of the scores of pairs, for `similarity`."""

    @model_validator(mode="after")
    def _check_one_source(self) -> TextPairs:
        kind = the_one(self, SOURCES)
        if kind in _FILES:
            require_ending(kind, getattr(self, kind))
        return self

    def parts(self, *, scored: bool) -> dict[str, Grouped]:
        """`train`, and perhaps `validation` and `test`.

        Args:
            scored: Whether the pairs of a file have scores, or are queries with their documents.

        Raises:
            DataError: They are missing or broken.
        """
        if self.python is not None:
            return grouped_of_python(self.python)
        path = self.csv or self.jsonl or self.parquet
        assert path is not None, "exactly one source is given"
        if scored:
            return {"train": scored_pairs_of_file(Path(path), self.query, self.document, self.score)}
        return {"train": pairs_of_file(Path(path), self.query, self.document)}

    @property
    def place(self) -> str:
        """What to call the source."""
        if self.python is not None:
            return self.python.rpartition(":")[2]
        return Path(self.csv or self.jsonl or self.parquet or "").stem


class TextBenchmark(TextPairs):
    """Texts that results are reported on beside the test split; nothing is chosen by them."""

    metric: EmbeddingMetric = "recall@10"
    """What is measured on them."""


class TextEmbedding(TextSettings):
    """Queries and documents in groups, which the network brings together; or texts to distil on, and what judges it."""

    pairs: TextPairs
    """Where training, validation and test texts come from. Training texts without groups can only be distilled. Of a
    file the pairs are queries with their documents, whatever the metric: nothing is learned from scores."""
    validation_pairs: TextPairs | None = None
    """What all decisions are made on, instead of a part of `pairs`."""
    test_pairs: TextPairs | None = None
    """What results are reported on, instead of a part of `pairs`."""
    width: int = Field(384, ge=1)
    """Of the embedding of a new network, unless its `width` says otherwise."""
    metric: EmbeddingMetric = "recall@10"
    """What quality means on validation and test. Recall is the share of a query's documents among the nearest."""
    benchmarks: Annotated[dict[_Name, TextBenchmark], Field(default_factory=dict)]
    """Other texts that results are reported on, by name. No decision reads them."""
    temperature: float = Field(0.05, gt=0)
    """Of the contrastive loss over the cosines of a batch."""

    @model_validator(mode="after")
    def _check_scores(self) -> TextEmbedding:
        lacking = [key for key in ("validation_pairs", "test_pairs") if getattr(self, key) is None]
        if self.metric not in RETRIEVAL_METRICS and lacking and self.pairs.python is None:
            raise ValueError(
                f"`metric: {self.metric}` is measured on pairs with scores; give `validation_pairs` and `test_pairs`, "
                "as `pairs` are queries with their documents"
            )
        return self

    def load(
        self,
        cache: Path,  # noqa: ARG002  nothing is fetched
        model: TextReading | None = None,
        store: Store | None = None,
    ) -> Task:
        """Reads the texts, splits them by groups, and proves that the splits share nothing.

        Args:
            cache: As other tasks take it.
            model: What the folder of the pipeline's `model` says of reading texts.
            store: Where ids of tokens and many texts are kept; None for all in memory.

        Raises:
            DataError: The data or the tokenizer is missing, broken, or cannot be used as asked.
            ModelError: The model does not fit the tokenizer.
        """
        how = preprocessing_of(self, model)
        parts = self.pairs.parts(scored=False)
        for split, given in (("validation", self.validation_pairs), ("test", self.test_pairs)):
            if given is not None:
                parts[split] = given.parts(scored=self.metric not in RETRIEVAL_METRICS)["train"]
        parts |= {split: Grouped(texts, None) for split, texts in unlabelled(self, store).items()}
        task = embedding_task(
            self.name or re.sub(r"[^\w.-]+", "_", self.pairs.place),
            parts,
            preprocessing=lambda _: how,
            objective=Embeddings(self.width, self.temperature),
            metric=self.metric,
            benchmarks={name: _benchmark(name, one) for name, one in self.benchmarks.items()},
            wanted={"validation": self.validation, "calibration": self.calibration, "test": self.test},
            seed=self.split_seed,
            noun="texts",
        )
        benchmarks: dict[str, Texts] = {name: one.inputs for name, one in task.benchmarks.items()}  # type: ignore[misc]
        tokens = Tokens(store)
        notes = (*task.notes, *split_notes(task.splits, how, tokens), *text_notes(benchmarks, how))
        return replace(task, notes=notes, tokens=tokens)


def _benchmark(name: str, source: TextBenchmark) -> Benchmark:
    found = source.parts(scored=source.metric not in RETRIEVAL_METRICS)["train"]
    if found.targets is None:
        key = "groups" if source.metric in RETRIEVAL_METRICS else "scores"
        raise DataError(f"`benchmarks.{name}`: `{source.metric}` needs `{key}`, but there are only texts")
    return Benchmark.of(found.inputs, found.targets, source.metric)
