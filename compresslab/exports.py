"""The networks of one run as artifacts: what each is exported with, and where it says that it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from compresslab.candidate import Towers
from compresslab.digest import library_versions
from compresslab.export import export
from compresslab.export.towers import join_towers
from compresslab.keys import LIBRARIES

if TYPE_CHECKING:
    from compresslab.candidate import Candidate, OnnxModel, TorchModel
    from compresslab.measure.artifact import Artifact
    from compresslab.tasks import Task
    from compresslab.tasks.towers_task import TowersTask

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
        assert not isinstance(candidate.model, Towers), "one network"
        return self._write(candidate.model, folder, _lineage(candidate))

    def network(self, model: TorchModel | OnnxModel, folder: Path) -> Artifact:
        """A network that is on no lineage, such as one that is only timed."""
        return self._write(model, folder, {})

    def part(self, model: TorchModel | OnnxModel, folder: Path) -> Artifact:
        """A network that is one of several, whose whole has the provenance."""
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
            # What one tower finds among its own samples is not what is measured.
            metric=None if task.in_one_space else task.metric,
            inputs=task.batch("validation", rows, None),
            provenance={**provenance, **_provenance(self.task, self.seed)},
        )


@dataclass(frozen=True)
class TowersExports:
    """Exports of several towers as one artifact.

    Args:
        task: Of all.
        towers: Each one's own exports.
        seed: Of the run, for the provenance.
    """

    task: TowersTask
    towers: Mapping[str, Exports]
    seed: int

    def candidate(self, candidate: Candidate, folder: Path) -> Artifact:
        """The candidate's towers, with its lineage in the provenance."""
        assert isinstance(candidate.model, Towers), "several networks"
        with TemporaryDirectory(prefix="compresslab-towers-") as scratch:
            parts = {
                name: self.towers[name].part(model, Path(scratch, name))
                for name, model in candidate.model.towers.items()
            }
            return join_towers(parts, folder, {**_lineage(candidate), **_provenance(self.task, self.seed)})


def _lineage(candidate: Candidate) -> dict[str, Any]:
    return {"lineage": [{"kind": step.kind, "settings": dict(step.settings)} for step in candidate.lineage]}


def _provenance(task: Task | TowersTask, seed: int) -> dict[str, Any]:
    return {
        "data": task.digest,
        "splits": {name: one.digest for name, one in task.splits.items()},
        "seed": seed,
        "versions": library_versions(*LIBRARIES),
    }
