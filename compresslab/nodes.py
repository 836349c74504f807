"""Candidates in the store: one entry for each application of a stage, with its networks and exported artifacts."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from compresslab.candidate import Candidate, Model, OnnxModel, Step, TorchModel, Towers
from compresslab.measure.artifact import Artifact, load_artifact
from compresslab.models import architecture
from compresslab.store import Store
from compresslab.world import on_main, wait, world

if TYPE_CHECKING:
    from compresslab.measure.preprocessing import Preprocessing


@dataclass(frozen=True)
class Made:
    """What an application of a stage gave: its candidates, and the notes that belong in every report of them."""

    candidates: tuple[Candidate, ...]
    notes: tuple[str, ...] = ()


_KIND = "stage"
_INDEX = "candidates.json"


@dataclass(frozen=True)
class Node:
    """A finished candidate: its lineage, the folder with its model and artifact, and what it took to make.

    Args:
        lineage: As the candidate's.
        folder: Where `artifact/` lies, and the weights where the candidate is a network.
        seconds: How long the stage took when it ran, shared by all its candidates.
        cached: Whether it was read from the store instead of made.
        notes: What the stage had to say.
    """

    lineage: tuple[Step, ...]
    folder: Path
    seconds: float
    cached: bool
    notes: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """The last stage."""
        return self.lineage[-1].kind

    @property
    def digest(self) -> str:
        """The candidate's digest."""
        return Candidate(OnnxModel(self.folder), self.lineage).digest

    @property
    def control(self) -> bool:
        """Whether this is a network that was trained only to compare with."""
        return bool(self.lineage[-1].decisions.get("control", False))

    @property
    def best(self) -> bool:
        """Whether the stage found it the best of what it made."""
        return bool(self.lineage[-1].decisions.get("best", True))

    def artifact(self) -> Artifact:
        """The exported model, its hashes checked."""
        return load_artifact(self.folder / "artifact")

    def candidate(self, trusted: Collection[str] = ()) -> Candidate:
        """The candidate, its network loaded from disk; `trusted` as for `architecture.load`."""
        artifact = self.artifact()
        manifest = artifact.manifest
        towers = {
            name: _loaded(self.folder / name, file, manifest.preprocessing_of(name), trusted)
            for name, file in artifact.graphs.items() if name in manifest.towers
        }  # fmt: skip
        if towers:
            return Candidate(Towers(towers), self.lineage)
        model = _loaded(self.folder, next(iter(artifact.graphs.values())), manifest.preprocessing, trusted)
        return Candidate(model, self.lineage)


def _loaded(folder: Path, graph: Path, how: Preprocessing, trusted: Collection[str]) -> TorchModel | OnnxModel:
    if (folder / architecture.WEIGHTS).exists():
        return architecture.load(folder, trusted)
    return OnnxModel(graph, how)


def _save(model: Model, place: Path) -> None:
    """Networks of several towers have a folder each, by their names."""
    if isinstance(model, Towers):
        for name, tower in model.towers.items():
            _save(tower, place / name)
    elif isinstance(model, TorchModel) and model.builder is not None:
        architecture.save(model, place)


class Nodes:
    """Makes nodes, or finds them in the store.

    Args:
        store: Where they are kept.
        export: Writes the artifact of a candidate into a folder.
    """

    def __init__(self, store: Store, export: Callable[[Candidate, Path], Artifact]) -> None:
        self._store = store
        self._export = export
        self._made: set[str] = set()

    def find(self, key: str) -> tuple[Node, ...] | None:
        """The nodes of one application of a stage if the store has them, so that `obtain` would make nothing."""
        found = self._store.find(_KIND, key)
        return None if found is None else self._read(found, cached=key not in self._made)

    def obtain(self, key: str, make: Callable[[Path], Made]) -> tuple[Node, ...]:
        """The nodes of one application of a stage.

        Args:
            key: Identifies the application and all that goes into it.
            make: Called with a scratch folder that survives a crash, unless the store has the entry.
        """
        found = on_main(lambda: self._store.find(_KIND, key))
        if found is None:
            self._write(key, make)
            self._made.add(key)
            found = self._store.find(_KIND, key)
            assert found is not None, "an entry that was just written is there"
        return self._read(found, cached=key not in self._made)

    def _write(self, key: str, make: Callable[[Path], Made]) -> None:
        """Makes the candidates, in every process that trains with this one; the main one alone writes them."""
        begun = time.perf_counter()
        if not world().main:
            make(self._store.scratch(_KIND, key))
            on_main(lambda: None)
            wait()
            return
        with self._store.writing(_KIND, key) as folder:
            made = make(self._store.scratch(_KIND, key))
            on_main(lambda: self._write_candidates(folder, made, begun))
        wait()

    def _write_candidates(self, folder: Path, made: Made, begun: float) -> None:
        for index, candidate in enumerate(made.candidates):
            place = folder / str(index)
            (place / "artifact").mkdir(parents=True)
            _save(candidate.model, place)
            self._export(candidate, place / "artifact")
        record = {
            "seconds": round(time.perf_counter() - begun, 3),
            "lineages": [[asdict(step) for step in candidate.lineage] for candidate in made.candidates],
            "notes": made.notes,
        }
        (folder / _INDEX).write_text(json.dumps(record, indent=1), encoding="utf-8")

    def _read(self, folder: Path, cached: bool) -> tuple[Node, ...]:
        record = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        seconds, notes = record["seconds"], tuple(record["notes"])
        return tuple(
            Node(tuple(Step(**step) for step in lineage), folder / str(index), seconds, cached, notes)
            for index, lineage in enumerate(record["lineages"])
        )
