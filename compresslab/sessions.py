"""The session options of every artifact of a run: its own, those the pipeline gives, or the fastest that were found."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from compresslab.digest import code_digest, digest_of
from compresslab.errors import BadInput
from compresslab.export.integer_operators import integer_operators
from compresslab.export.towers import summed
from compresslab.measure.machine import fingerprint
from compresslab.measure.session import SessionOptions
from compresslab.measure.session_choice import choose_session
from compresslab.measure.tower_samples import TowerSamples
from compresslab.world import on_main

if TYPE_CHECKING:
    from compresslab.measure.artifact import Artifact
    from compresslab.measure.bench import BenchSettings
    from compresslab.store import Store
    from compresslab.tasks import Task
    from compresslab.tasks.towers_task import TowersTask

_KIND = "session"
_FILE = "session.json"


class Sessions:
    """Gives artifacts the options they are deployed with, before anything of them is measured.

    Args:
        store: Where choices are kept.
        task: Its validation split is what is measured with.
        bench: `bench.session` says what to do; its first point is where the choice is made.
        decided: Choices of the run whose lock file is replayed, by key.
    """

    def __init__(
        self,
        store: Store,
        task: Task | TowersTask,
        bench: BenchSettings,
        decided: Mapping[str, Sequence[Mapping[str, Any]]],
    ) -> None:
        self._store, self._task, self._bench, self._replayed = store, task, bench, decided
        self.decided: dict[str, list[dict[str, Any]]] = {}
        """What was chosen by measuring, by key: for the lock file."""

    def deployed(self, artifact: Artifact) -> Artifact:
        """The artifact with the options that it is measured, gated and served with.

        Raises:
            BenchmarkFailed: A measuring process died.
            BadInput: The lock file that is replayed has a choice that is none.
        """
        if self._bench.session == "default":
            return artifact
        if isinstance(self._bench.session, SessionOptions):
            # What keeps the graph faithful stays, whatever else is asked for.
            given, own = self._bench.session, artifact.manifest.session
            names = tuple(dict.fromkeys([*given.disabled_optimizers, *own.disabled_optimizers]))
            return _with(artifact, given.model_copy(update={"disabled_optimizers": names}))
        key = self._key(artifact)
        record = on_main(lambda: self._obtained(key, artifact))
        self.decided[key] = [record]
        try:
            return _with(artifact, SessionOptions.model_validate_json(json.dumps(record["options"])))
        except (ValidationError, KeyError) as error:
            raise BadInput(
                f"the lock file's choice of session options is none that this version knows ({error}); leave `decided` "
                "out of it to choose anew"
            ) from error

    def choice(self, artifact: Artifact) -> Mapping[str, Any]:
        """What was tried for the artifact as it was exported; empty where nothing was."""
        found = self.decided.get(self._key(artifact)) if self._bench.session == "auto" else None
        return {} if found is None else {"session": found[0]}

    def _obtained(self, key: str, artifact: Artifact) -> dict[str, Any]:
        if self._replayed.get(key):
            return dict(self._replayed[key][0])
        found = self._store.find(_KIND, key)
        if found is not None:
            loaded: dict[str, Any] = json.loads((found / _FILE).read_text(encoding="utf-8"))
            return loaded
        samples = self._task.splits["validation"].inputs
        assert not isinstance(samples, TowerSamples), "`auto` is refused for several graphs"
        choice = choose_session(artifact, samples, self._bench, self._task.sample_sets)
        record = {
            "options": choice.session.model_dump(mode="json"),
            "chosen": choice.session.label,
            "tried": [one.plain() for one in choice.tried],
        }
        with self._store.writing(_KIND, key) as folder:
            (folder / _FILE).write_text(json.dumps(record), encoding="utf-8")
        return record

    def _key(self, artifact: Artifact) -> str:
        return digest_of(
            {
                "artifact": artifact.digest,
                "bench": self._bench.model_copy(update={"points": self._bench.points[:1]}).model_dump(mode="json"),
                "data": self._task.splits["validation"].digest,
                "machine": fingerprint(),
                "code": code_digest("compresslab.measure.session_choice", "compresslab.measure.worker"),
            }
        )


def _with(artifact: Artifact, session: SessionOptions) -> Artifact:
    """Which kernels run depends on the options, so they are counted again."""
    if session == artifact.manifest.session:
        return artifact
    counted = artifact.manifest.integer_operators
    if counted.eligible:
        found = {name: integer_operators(path, session) for name, path in artifact.graphs.items()}
        counted = next(iter(found.values())) if len(found) == 1 else summed(found)
    changed = {"session": session, "integer_operators": counted}
    return replace(artifact, manifest=artifact.manifest.model_copy(update=changed))
