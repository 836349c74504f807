"""Samples to embeddings: where groups of queries and documents come from, how they are split, and what is measured."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field, model_validator

from compresslab.data.augmentation import Augmentation
from compresslab.data.features import unlabelled_features
from compresslab.data.grouped import Grouped, load_grouped_npz
from compresslab.data.grouping import connected
from compresslab.data.identity import ids_of, sample_hashes
from compresslab.data.splits import prove_disjoint
from compresslab.errors import DataError
from compresslab.measure.groups import groups_of, is_query
from compresslab.measure.metric_names import RETRIEVAL_METRICS, EmbeddingMetric
from compresslab.one_of import the_one
from compresslab.settings import FilePath, Settings
from compresslab.tasks.benchmark import Benchmark, content_digest, retrieval_notes
from compresslab.tasks.objective import Embeddings
from compresslab.tasks.places import Amount, Place, places
from compresslab.tasks.standardising import feature_preprocessing
from compresslab.tasks.task import Split, Task

if TYPE_CHECKING:
    import numpy.typing as npt

    from compresslab.data.identity import Ids
    from compresslab.measure.preprocessing import Preprocessing, Samples

SOURCES = ("npz",)

_Name = Annotated[str, Field(pattern=r"^[^/\s]+$")]


class BenchmarkSource(Settings):
    """Samples that results are reported on beside the test split; nothing is chosen by them."""

    npz: FilePath
    """A file with the arrays `features` [n, d] and `groups` [n] as the task's own; for `similarity` `scores` [n]
    instead, where rows 2i and 2i + 1 are a pair and both have its score."""
    metric: EmbeddingMetric = "recall@10"
    """What is measured on them."""


class EmbeddingTask(Settings):
    """Exactly one source of queries and documents in groups; the network learns to bring those of a group together."""

    npz: FilePath | None = None
    """A file with the arrays `features` [n, d] (float32) and `groups` [n] (whole numbers: g for a document of group g,
    -(g + 1) for a query of it), and perhaps `validation_...` and `test_...` of both. Without `groups` the training
    data can only be distilled, and validation and test must be there; they may have `..._scores` of pairs instead."""
    width: int = Field(ge=1)
    """Of the embedding of a new network, unless its `width` says otherwise."""
    metric: EmbeddingMetric = "recall@10"
    """What quality means on validation and test. Recall is the share of a query's documents among the nearest."""
    benchmarks: Annotated[dict[_Name, BenchmarkSource], Field(default_factory=dict)]
    """Other samples that results are reported on, by name. No decision reads them."""
    temperature: float = Field(0.05, gt=0)
    """Of the contrastive loss over the cosines of a batch."""
    transfer: FilePath | None = None
    """Unlabelled samples to distil on as well: an .npz file with `features`."""
    calibration_data: FilePath | None = None
    """Unlabelled samples that set quantization ranges, instead of a part of the training data: an .npz file with
    `features`."""
    name: _Name | None = None
    """What results call it; null takes the name of the source."""
    standardise: bool = True
    """Whether each feature is centred and divided by its deviation over the training data."""
    validation: Amount | None = None
    """What all decisions are made on; groups are never parted. Null takes the source's own, or 10 % of the training
    data, at most 5,000."""
    calibration: Amount | None = None
    """What sets quantization ranges and importance scores. Null takes 5 % of the training data, at most 1,000."""
    test: Amount | None = None
    """What results are reported on. Null takes the source's own, or 15 % of the training data, at most 10,000."""
    split_seed: int = 0
    """Another one gives other splits."""

    @model_validator(mode="after")
    def _check_one_source(self) -> EmbeddingTask:
        the_one(self, SOURCES)
        return self

    def load(self) -> Task:
        """Reads the data, splits it by groups, and proves that the splits share nothing.

        Raises:
            DataError: The data is missing, broken, or cannot be split as asked.
        """
        assert self.npz is not None, "exactly one source is given"
        source = Path(self.npz)
        parts = load_grouped_npz(source)
        train = np.asarray(parts["train"].inputs, np.float32)
        for part, path in (("transfer", self.transfer), ("calibration", self.calibration_data)):
            if path is not None:
                parts[part] = Grouped(unlabelled_features(Path(path), train.shape[1]), None)
        return embedding_task(
            self.name or re.sub(r"[^\w.-]+", "_", source.stem),
            parts,
            preprocessing=lambda inputs: feature_preprocessing(np.asarray(inputs, np.float32), self.standardise),
            objective=Embeddings(self.width, self.temperature),
            metric=self.metric,
            benchmarks={name: self._benchmark(one, train.shape[1]) for name, one in self.benchmarks.items()},
            wanted={"validation": self.validation, "calibration": self.calibration, "test": self.test},
            seed=self.split_seed,
        )

    def _benchmark(self, source: BenchmarkSource, width: int) -> Benchmark:
        path = Path(source.npz)
        found = load_grouped_npz(path)["train"]
        if found.targets is None:
            key = "groups" if source.metric in RETRIEVAL_METRICS else "scores"
            raise DataError(f"{path}: a benchmark of `{source.metric}` needs `{key}`, but there are only `features`")
        if found.inputs.shape[1] != width:
            raise DataError(
                f"{path}: {found.inputs.shape[1]} features a sample, but the training data has {width}; compute them "
                "alike"
            )
        return Benchmark.of(found.inputs, found.targets, source.metric)


def embedding_task(
    name: str,
    parts: Mapping[str, Grouped],
    *,
    preprocessing: Callable[[Samples], Preprocessing],
    objective: Embeddings,
    metric: EmbeddingMetric,
    benchmarks: Mapping[str, Benchmark],
    wanted: Mapping[str, Amount | None],
    seed: int,
    noun: str = "samples",
) -> Task:
    """The task of samples in groups, whatever the samples are.

    Groups are never parted, neither between splits nor in the order of a split. Training groups that share a sample are
    one.

    Args:
        name: What results call it.
        parts: `train`, and perhaps `validation`, `test`, `transfer` and `calibration`.
        preprocessing: From the training split's samples to how samples become inputs.
        objective: The width of an embedding, and the loss.
        metric: Of validation and test.
        benchmarks: By name.
        wanted: How much `validation`, `calibration` and `test` should have; None for the usual amount.
        seed: Another one gives other splits.
        noun: What samples are called in errors and notes.

    Raises:
        DataError: The samples cannot be split as asked, or a metric cannot be computed of what there is.
    """
    if name in benchmarks:
        raise DataError(
            f"`benchmarks.{name}` has the name of the task, so results could not tell them apart; rename it"
        )
    if "validation" in benchmarks:
        raise DataError("`benchmarks.validation` has the name of a split, which has sample sets too; rename it")
    hashes = {part: sample_hashes(one.inputs) for part, one in parts.items()}
    ids = {part: ids_of(one) for part, one in hashes.items()}
    train, merged = _one_group_a_sample(parts["train"], ids["train"])
    parts = {**parts, "train": train}
    notes = [f"{merged} training groups share {noun} with others, and were taken for one with them"] if merged else []
    if train.targets is None:
        missing = [split for split in ("validation", "test") if split not in parts]
        if missing:
            raise DataError(
                f"{name}: the training {noun} have no groups, so {' and '.join(f'`{one}`' for one in missing)} cannot "
                "be taken from them; give groups, or validation and test of their own"
            )
    together = ids["train"] if train.targets is None else _first_of_group(groups_of(train.targets), ids["train"])
    strata = np.zeros(len(together), np.int64)
    found, told = places(name, ids, strata, wanted, seed, noun, together)
    notes += told

    def made(split: str, place: Place) -> Split:
        targets = parts[place.part].targets
        rows = _side_by_side(place.rows, targets, ids[place.part])
        if split in ("validation", "test"):
            rows, lost = _answerable(rows, targets)
            notes.extend(
                [f"{lost} {split} queries have lost their documents to another split, and were left out"] * bool(lost)
            )
        if not len(rows):
            raise DataError(f"`{split}`: no query has a document that is in no other split; give others")
        inputs, own = parts[place.part].inputs[rows], None if targets is None else targets[rows]
        digest = content_digest(inputs, own, hashes[place.part], rows)
        return Split(split, inputs, own, ids[place.part][rows], digest, place.part, rows, place.size)

    splits = {split: made(split, place) for split, place in found.items()}
    prove_disjoint({split: part.ids for split, part in splits.items()}, noun)
    for split in ("validation", "test"):
        _require_measurable(f"`{split}`", splits[split].targets, metric)
    for key, one in benchmarks.items():
        _require_measurable(f"`benchmarks.{key}`", one.targets, one.metric)
        notes += [*one.notes(key), *_seen_before(key, one, splits, noun)]
    for split in ("validation", "test"):
        targets = splits[split].targets
        notes += retrieval_notes(split, targets, metric) if targets is not None and metric in RETRIEVAL_METRICS else []
    return Task.of(
        name=name,
        objective=objective,
        splits=splits,
        preprocessing=preprocessing(splits["train"].inputs),
        augmentation=Augmentation(),
        metric=metric,
        notes=tuple(notes),
        benchmarks=benchmarks,
    )


def _one_group_a_sample(train: Grouped, ids: Ids) -> tuple[Grouped, int]:
    """Groups that share a sample made one, and how many there are fewer for it."""
    if train.targets is None:
        return train, 0
    if train.targets.dtype.kind != "i":
        raise DataError("the training data has scores of pairs, from which nothing is learned; give groups, or nothing")
    _, group = np.unique(groups_of(train.targets), return_inverse=True)
    _, content = np.unique(ids, return_inverse=True)
    number = connected(group, content)
    fewer = int(group.max()) - int(number.max())
    if not fewer:
        return train, 0
    return replace(train, targets=np.where(is_query(train.targets), -(number + 1), number)), fewer


def _first_of_group(groups: npt.NDArray[np.int64], ids: Ids) -> Ids:
    """A number for each sample's group that depends on its content alone: the least id in it."""
    _, number = np.unique(groups, return_inverse=True)
    least = np.full(int(number.max()) + 1, np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(least, number, ids)
    return least[number]


def _side_by_side(
    rows: npt.NDArray[np.int64], targets: npt.NDArray[np.generic] | None, ids: Ids
) -> npt.NDArray[np.int64]:
    """The rows with those of a group next to each other, in an order that the source's does not change."""
    if targets is None or targets.dtype.kind != "i":
        return rows
    own = np.asarray(targets, np.int64)[rows]
    _, first, number = np.unique(groups_of(own), return_index=True, return_inverse=True)
    return rows[np.lexsort((ids[rows], own, first[number]))]


def _answerable(
    rows: npt.NDArray[np.int64], targets: npt.NDArray[np.generic] | None
) -> tuple[npt.NDArray[np.int64], int]:
    """The rows without queries whose documents are in another split, and how many these are."""
    if targets is None or targets.dtype.kind != "i":
        return rows, 0
    own = np.asarray(targets, np.int64)[rows]
    queries, groups = is_query(own), groups_of(own)
    kept = ~queries | np.isin(groups, groups[~queries])
    return rows[kept], int((~kept).sum())


def _require_measurable(where: str, targets: npt.NDArray[np.generic] | None, metric: str) -> None:
    from compresslab.measure.metrics import METRICS

    if targets is None:
        raise DataError(f"{where}: there are no groups or scores, so `{metric}` cannot be measured; give them")
    try:
        METRICS[metric].check(np.ones((len(targets), 2), np.float32), targets)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error


def _seen_before(key: str, benchmark: Benchmark, splits: Mapping[str, Split], noun: str) -> list[str]:
    """A note on samples of a benchmark that something is learned from or chosen by."""
    found = []
    for split in ("train", "transfer", "calibration", "validation"):
        if split in splits:
            shared = int(np.isin(benchmark.ids, splits[split].ids).sum())
            if shared:
                found.append(f"{shared} in `{split}`")
    if not found:
        return []
    return [
        f"`{key}`: of {len(benchmark.ids)} {noun} {', '.join(found)} as well; results on them may be better than on "
        "new ones"
    ]
