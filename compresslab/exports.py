"""The networks of one run as artifacts: what each is exported with, and where it says that it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compresslab.digest import library_versions
from compresslab.export import export
from compresslab.keys import LIBRARIES

if TYPE_CHECKING:
    from pathlib import Path

    from compresslab.candidate import Candidate, OnnxModel, TorchModel
    from compresslab.measure.artifact import Artifact
    from compresslab.tasks import Task

_PARITY_SAMPLES = 512
# A pass over a text takes many times one over a small image.
_PARITY_TEXTS = 128


@dataclass(frozen=True)
class Exports:
    """Exports for one task.

    Args:
        task: Whose preprocessing, labels and validation samples go with every network.
        seed: Of the run, for the provenance.
    """

    task: Task
    seed: int

    def candidate(self, candidate: Candidate, folder: Path) -> Artifact:
        """The candidate's network, with its lineage in the provenance."""
        lineage = [{"kind": step.kind, "settings": dict(step.settings)} for step in candidate.lineage]
        return self._write(candidate.model, folder, {"lineage": lineage})

    def network(self, model: TorchModel | OnnxModel, folder: Path) -> Artifact:
        """A network that is on no lineage, such as one that is only timed."""
        return self._write(model, folder, {})

    def _write(self, model: TorchModel | OnnxModel, folder: Path, provenance: Mapping[str, Any]) -> Artifact:
        # Spread over the split: a user's own validation images may come class by class.
        task = self.task.read_by(model.preprocessing)
        split = task.splits["validation"]
        rows = task.spread("validation", _PARITY_TEXTS if task.preprocessing.kind == "text" else _PARITY_SAMPLES)
        return export(
            model,
            folder,
            preprocessing=task.preprocessing,
            labels=task.labels,
            target=task.target,
            embedding=task.any_width,
            targets=None if split.targets is None else split.targets[rows],
            metric=task.metric,
            inputs=task.batch("validation", rows, None),
            provenance={
                **provenance,
                "data": self.task.digest,
                "splits": {name: one.digest for name, one in self.task.splits.items()},
                "seed": self.seed,
                "versions": library_versions(*LIBRARIES),
            },
        )
