"""What stages decide by a clock or a verdict: kept for the lock file, and followed where one is replayed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from compresslab.keys import assesses

if TYPE_CHECKING:
    from compresslab.nodes import Node
    from compresslab.stage import Stage


class Decided:
    """The decisions of one run, by the key of the stage that made them.

    Args:
        before: Those of the run whose lock file is replayed; empty where none is.
        note: Told where there is a lock file, but it has no decision for a stage that decides.
    """

    def __init__(self, before: Mapping[str, Sequence[Mapping[str, Any]]], note: Callable[[str], None]) -> None:
        self._before = before
        self._note = note
        self.now: dict[str, list[dict[str, Any]]] = {}

    def before(self, stage: Stage, key: str) -> tuple[Mapping[str, Any], ...] | None:
        """The decisions of each candidate that the stage gave then; None where it has to decide itself."""
        if not assesses(stage) or not self._before:
            return None
        found = self._before.get(key)
        if found is None:
            self._note(
                f"{stage.kind}: the lock file's decisions were made under other settings, with other data or code, or "
                "on another machine, so it decides anew"
            )
        return None if found is None else tuple(found)

    def keep(self, stage: Stage, key: str, nodes: Sequence[Node]) -> None:
        """Keeps what the stage has decided, if it is one that decides."""
        if assesses(stage):
            self.now[key] = [dict(node.lineage[-1].decisions) for node in nodes]
