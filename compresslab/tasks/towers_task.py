"""A task of several towers: what each of them reads and learns, and what is measured between them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from compresslab.digest import digest_of
from compresslab.measure.both_directions import turned
from compresslab.measure.metric_names import BOTH_WAYS, label_of
from compresslab.measure.tower_samples import TowerSamples
from compresslab.tasks.objective import Embeddings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from compresslab.measure.preprocessing import Samples
    from compresslab.tasks.task import Task

DOCUMENTS, QUERIES = "image", "text"
"""Whose samples are the documents and whose are the queries where a direction is not turned."""


@dataclass(frozen=True)
class Pairs:
    """Images and texts in groups, and what is measured of them.

    Args:
        inputs: The samples of each tower, images first.
        targets: Of retrieval: an image of group g has g, a text -(g + 1); or turned.
        metric: Its name.
        digest: SHA-256 of the content.
    """

    inputs: TowerSamples
    targets: npt.NDArray[np.int64]
    metric: str
    digest: str

    @classmethod
    def of(
        cls, parts: Mapping[str, Samples], groups: Mapping[str, npt.NDArray[np.int64]], metric: str, digest: str
    ) -> Pairs:
        """From both towers' samples and the numbers of their groups."""
        targets = np.concatenate([groups[DOCUMENTS], -(groups[QUERIES] + 1)])
        return cls(TowerSamples({DOCUMENTS: parts[DOCUMENTS], QUERIES: parts[QUERIES]}), targets, metric, digest)

    def directions(self) -> dict[str, Pairs]:
        """What texts find among the images, and images among the texts, each by itself."""
        one_way = label_of(self.metric)
        there = replace(self, metric=one_way, digest=digest_of([self.digest, one_way]))
        back = replace(there, targets=turned(self.targets), digest=digest_of([self.digest, one_way, "turned"]))
        return {f"{QUERIES}_to_{DOCUMENTS}": there, f"{DOCUMENTS}_to_{QUERIES}": back}


@dataclass(frozen=True)
class TowersTask:
    """What networks are for that embed images and texts in one space.

    Quality is retrieval. `metric` is the mean of both directions on `validation`, which all that chooses reads; on test
    each direction is told too, and so is each benchmark.

    Args:
        name: What results call it.
        towers: Each tower's own view: an ordinary task of embeddings, whose targets are the numbers of groups.
        splits: `validation` and `test`, of both towers.
        benchmarks: By name, with their directions as `name/text_to_image` and `name/image_to_text`.
        metric: The name of the metric of the splits.
        digest: Of all that can change a result.
        notes: What the user should know of the data.
        width: Of the space; None follows the towers that are there already.
    """

    name: str
    towers: Mapping[str, Task]
    splits: Mapping[str, Pairs]
    benchmarks: Mapping[str, Pairs]
    metric: str
    digest: str
    notes: tuple[str, ...]
    width: int | None

    @classmethod
    def of(
        cls,
        *,
        name: str,
        towers: Mapping[str, Task],
        splits: Mapping[str, Pairs],
        benchmarks: Mapping[str, Pairs],
        metric: str,
        notes: Sequence[str],
        width: int | None,
    ) -> TowersTask:
        """The task with its digest; `benchmarks` without directions."""
        beside: dict[str, Pairs] = {}
        for called, pairs in ((name, splits["test"]), *benchmarks.items()):
            if called in benchmarks:
                beside[called] = pairs
            beside |= {f"{called}/{direction}": one for direction, one in pairs.directions().items()}
        digest = digest_of(
            {
                "name": name,
                "towers": {tower: task.digest for tower, task in towers.items()},
                "splits": {split: one.digest for split, one in splits.items()},
                "benchmarks": {key: [one.metric, one.digest] for key, one in beside.items()},
                "metric": metric,
                "width": width,
            }
        )
        return cls(name, towers, splits, beside, f"{BOTH_WAYS}{metric}", digest, tuple(notes), width)

    @property
    def benchmark_metric(self) -> str:
        """The name of the figure that decisions read, such as `emoji/recall@10`."""
        return f"{self.name}/{label_of(self.metric)}"

    @property
    def benchmark_metrics(self) -> tuple[str, ...]:
        """The names of the other figures, such as `emoji/text_to_image/recall@10`; no decision reads them."""
        return tuple(f"{name}/{label_of(one.metric)}" for name, one in self.benchmarks.items())

    @property
    def sample_sets(self) -> Mapping[str, Samples]:
        """None beside the splits: latency is measured with samples of validation."""
        return {}

    def of_width(self, width: int) -> TowersTask:
        """The task in a space that is so wide."""

        def wide(task: Task) -> Task:
            assert isinstance(task.objective, Embeddings), "towers embed"
            return replace(task, objective=replace(task.objective, width=width, one_space=True))

        return replace(self, towers={name: wide(task) for name, task in self.towers.items()}, width=width)
