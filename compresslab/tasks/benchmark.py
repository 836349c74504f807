"""A set of samples that results are reported on beside the task's test split, with a metric of its own."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np

from compresslab.data.identity import ids_of, sample_hashes
from compresslab.measure.groups import groups_of, is_query
from compresslab.measure.metric_names import RETRIEVAL_METRICS

if TYPE_CHECKING:
    import numpy.typing as npt

    from compresslab.data.identity import Ids
    from compresslab.measure.preprocessing import Samples

    Targets = npt.NDArray[np.int64] | npt.NDArray[np.float32]


_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class Benchmark:
    """Labelled samples, as a split's. Nothing is chosen by them: they are measured where `test` is.

    Args:
        inputs: As a split of the task has them [n, ...].
        targets: As the metric reads them [n]: of retrieval group numbers, of `similarity` the score of each pair, in
            both of its rows.
        metric: Its name, which may be another than the task's.
        ids: The first eight bytes of each sample's SHA-256 [n].
        digest: SHA-256 of the content, in this order, with its targets.
    """

    inputs: Samples
    targets: Targets
    metric: str
    ids: Ids
    digest: str

    @classmethod
    def of(cls, inputs: Samples, targets: Targets, metric: str) -> Benchmark:
        """The benchmark with its digest."""
        hashes = sample_hashes(inputs)
        return cls(inputs, targets, metric, ids_of(hashes), content_digest(inputs, targets, hashes))

    @property
    def sample_sets(self) -> dict[str, Samples]:
        """Its `queries` and `documents`, or all its `samples` where it has none, by these names."""
        if self.metric not in RETRIEVAL_METRICS:
            return {"samples": self.inputs}
        queries = is_query(self.targets)
        return {"queries": self.inputs[queries], "documents": self.inputs[~queries]}

    def notes(self, name: str) -> list[str]:
        """What the user should know of it."""
        return retrieval_notes(name, self.targets, self.metric) if self.metric in RETRIEVAL_METRICS else []


def retrieval_notes(name: str, targets: Targets, metric: str) -> list[str]:
    """What the user should know of queries and documents before anything is looked for."""
    return [*_distractors(name, targets), *too_few(name, int((~is_query(targets)).sum()), metric)]


def too_few(name: str, documents: int, metric: str, noun: str = "documents") -> list[str]:
    """A note where every document is among the nearest k, so that the figure tells nothing."""
    kind, _, nearest = metric.partition("@")
    if kind != "recall" or documents > int(nearest):
        return []
    return [
        f"`{name}`: `{metric}` is 1 whatever a model answers, as there are only {documents} {noun}; give more, or a "
        "metric of fewer"
    ]


def _distractors(name: str, targets: Targets) -> list[str]:
    """A note where documents are right for no query: they make the search harder, or a query was forgotten."""
    queries, groups = is_query(targets), groups_of(targets)
    unasked = int((~queries & ~np.isin(groups, groups[queries])).sum())
    if not unasked:
        return []
    return [
        f"`{name}`: {unasked} of {int((~queries).sum())} documents are of a group without a query; they can only be "
        "found by mistake"
    ]


def content_digest(
    inputs: Samples,
    targets: Targets | None,
    hashes: npt.NDArray[np.uint8],
    rows: npt.NDArray[np.int64] | None = None,
) -> str:
    """SHA-256 of samples' content: their hashes in their order, and their targets.

    Args:
        inputs: [n, ...].
        targets: [n].
        hashes: Of the samples [n, 32]; or of more, of which `rows` are these.
        rows: [n].
    """
    digest = sha256(f"{inputs.dtype} {inputs.shape}".encode())
    for start in range(0, len(hashes) if rows is None else len(rows), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        digest.update(np.ascontiguousarray(hashes[part] if rows is None else hashes[rows[part]]).data)
    if targets is not None:
        digest.update(np.ascontiguousarray(targets, "<i8" if targets.dtype.kind == "i" else "<f4").data)
    return digest.hexdigest()
