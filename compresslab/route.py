"""The way of candidates through the stages: which go on, which teach, and how far the store has it already."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from compresslab.nodes import Node
    from compresslab.pipeline import Pipeline
    from compresslab.stage import Stage


@dataclass(frozen=True)
class PlanLine:
    """What `run` would do for one stage. `seconds` is how long it took the last time; None if it never ran here."""

    stage: str
    cached: bool
    seconds: float | None


def going_on(stage: Stage, made: Sequence[Node]) -> tuple[Node, ...]:
    """The candidates that the next stage starts from: no controls, and of peers the best where that is asked."""
    return tuple(node for node in made if not node.control and (node.best or _keeps_all(stage)))


def teaching(stage: Stage, made: Sequence[Node]) -> Node | None:
    """Whom later stages learn from, unless `teacher` or `model` says: the best that a stage trained from scratch."""
    return next((node for node in made if node.best), None) if stage.kind in ("train", "mutual") else None


def planned(
    pipeline: Pipeline,
    baseline: Node,
    find: Callable[[Stage, Node, Node | None], tuple[Node, ...] | None],
    seconds: Callable[[bool, Sequence[str]], float | None],
) -> tuple[PlanLine, ...]:
    """A line for each application of a stage, the references first.

    Args:
        pipeline: What would be run.
        baseline: Its root.
        find: What the store has of a stage: (stage, what it starts from, who was trained before it) -> its nodes.
        seconds: What it took the last time: (is it a reference, its lineage) -> seconds.
    """
    lines: list[PlanLine] = []

    def look(
        stage: Stage, start: Node | None, trained: Node | None, lineage: Sequence[str], reference: bool
    ) -> tuple[Node, ...] | None:
        # What starts from a candidate that is still to be made is still to be made.
        found = None if start is None else find(stage, start, trained)
        lines.append(PlanLine(stage.kind, found is not None, seconds(reference, [*lineage, stage.kind])))
        return found

    for stage in pipeline.references:
        look(stage, baseline, None, ["baseline"], True)
    current: tuple[Node | None, ...] = (baseline,)
    trained: Node | None = None
    lineage = ["baseline"]
    for stage in pipeline.stages:
        found = [look(stage, start, trained, lineage, False) for start in current]
        made = [nodes for nodes in found if nodes is not None]
        lineage.append(stage.kind)
        if len(made) < len(found):
            current = (None,) * (len(current) * (len(getattr(stage, "peers", ())) if _keeps_all(stage) else 1))
            continue
        current = tuple(node for nodes in made for node in going_on(stage, nodes))
        trained = teaching(stage, [node for nodes in made for node in nodes]) or trained
    return tuple(lines)


def _keeps_all(stage: Stage) -> bool:
    return getattr(stage, "keep", None) == "all"
