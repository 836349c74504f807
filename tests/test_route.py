"""Which candidates go on, who teaches, and what the plan says of it before and after a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from compresslab import (
    Distill,
    ImageClassification,
    ModelSpec,
    Mutual,
    Pipeline,
    Prune,
    Quantize,
    Residual,
    TaskSpec,
    Train,
)
from compresslab.candidate import Step
from compresslab.digest import digest_of
from compresslab.nodes import Node
from compresslab.route import PlanLine, going_on, planned, teaching
from compresslab.stage import Stage

NEW = ModelSpec(residual=Residual(widths=(8,)))
ROOT = Step("baseline", {}, {}, digest_of(["root"]))


def node(stage: str, *, after: Node | None = None, **decisions: Any) -> Node:
    before = (ROOT,) if after is None else after.lineage
    step = Step(stage, {}, decisions, digest_of([stage, [one.digest for one in before], decisions]))
    return Node((*before, step), Path(), 1.0, cached=True)


def mutual(keep: str, peers: int = 2) -> Mutual:
    return Mutual(epochs=1, peers=(NEW,) * peers, keep=keep)


DISTILL = Distill(epochs=1, control=True)


def peers(best: int, count: int = 2, after: Node | None = None) -> tuple[Node, ...]:
    return tuple(node("mutual", after=after, peer=index, best=index == best) for index in range(count))


# -- who goes on -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("best", [0, 1])
def test_of_peers_the_best_goes_on_or_all_and_the_best_teaches(best: int) -> None:
    """Not the last: which that is says nothing."""
    made = peers(best)
    assert going_on(mutual("best"), made) == (made[best],)
    assert going_on(mutual("all"), made) == made
    for keep in ("best", "all"):
        assert teaching(mutual(keep), made) == made[best]


def test_a_control_does_not_go_on() -> None:
    student, control = node("distill", explained=0.9), node("distill", control=True)
    assert going_on(DISTILL, (student, control)) == (student,)


def test_every_attempt_of_a_quantizer_goes_on() -> None:
    attempts = node("quantize", mode="ptq"), node("quantize", mode="qat")
    assert going_on(Quantize(mode="auto"), attempts) == attempts


@pytest.mark.parametrize("stage", [DISTILL, Prune(ratio=0.5), Quantize()])
def test_what_is_not_trained_from_scratch_teaches_nobody(stage: Stage) -> None:
    assert teaching(stage, (node(stage.kind),)) is None
    assert teaching(Train(epochs=1), (one := node("train"),)) == one


# -- the plan --------------------------------------------------------------------------------------------------------


class Stored:
    """A store of nodes by stage, by what they start from, and by who teaches."""

    def __init__(self) -> None:
        self.nodes: dict[tuple[str, str, str | None], tuple[Node, ...]] = {}
        self.asked: list[tuple[str, str, str | None]] = []

    def put(self, stage: Stage, start: Node, trained: Node | None, *made: Node) -> None:
        self.nodes[stage.kind, start.digest, trained and trained.digest] = made

    def find(self, stage: Stage, start: Node, trained: Node | None) -> tuple[Node, ...] | None:
        key = stage.kind, start.digest, trained and trained.digest
        self.asked.append(key)
        return self.nodes.get(key)


BASELINE = Node((ROOT,), Path(), 0.0, cached=False)


def plan(stored: Stored, *stages: Stage, references: Sequence[Stage] = ()) -> list[tuple[str, bool]]:
    spec = TaskSpec(image_classification=ImageClassification(npz="x.npz"))
    model = ModelSpec(checkpoint="somewhere")
    pipeline = Pipeline(task=spec, model=model, stages=stages, references=references)
    lines = planned(pipeline, BASELINE, stored.find, lambda reference, lineage: None)
    return [(line.stage, line.cached) for line in lines]


def test_before_the_first_run_each_peer_that_will_go_on_has_a_line() -> None:
    assert plan(Stored(), mutual("best"), DISTILL, Quantize()) == [
        ("mutual", False), ("distill", False), ("quantize", False),
    ]  # fmt: skip
    assert plan(Stored(), mutual("all", 3), DISTILL, Quantize()) == [
        ("mutual", False), *[("distill", False)] * 3, *[("quantize", False)] * 3,
    ]  # fmt: skip


@pytest.mark.parametrize("best", [0, 1])
def test_after_a_run_the_best_peer_is_followed(best: int) -> None:
    """It is the second as often as the first; what comes after learns from it where no teacher is given."""
    stored, made = Stored(), peers(best, after=BASELINE)
    student, control = (node("distill", after=made[best], control=control) for control in (False, True))
    stored.put(mutual("best"), BASELINE, None, *made)
    stored.put(DISTILL, made[best], made[best], student, control)
    assert plan(stored, mutual("best"), DISTILL, Quantize()) == [
        ("mutual", True), ("distill", True), ("quantize", False),
    ]  # fmt: skip
    assert stored.asked[-1] == ("quantize", student.digest, made[best].digest), "and not the control"


def test_after_a_run_that_kept_all_peers_each_is_followed() -> None:
    stored, made = Stored(), peers(1, after=BASELINE)
    stored.put(mutual("all"), BASELINE, None, *made)
    for one in made:
        stored.put(DISTILL, one, made[1], node("distill", after=one), node("distill", after=one, control=True))
    wanted = [("mutual", True), ("distill", True), ("distill", True), ("quantize", False), ("quantize", False)]
    assert plan(stored, mutual("all"), DISTILL, Quantize()) == wanted
    del stored.nodes["distill", made[0].digest, made[1].digest]
    wanted[1] = ("distill", False)
    assert plan(stored, mutual("all"), DISTILL, Quantize()) == wanted, "killed between the two"


def test_what_was_trained_teaches_from_then_on_and_not_before() -> None:
    stored = Stored()
    first, second = Train(epochs=1), DISTILL
    trained = node("train", after=BASELINE)
    stored.put(first, BASELINE, None, trained)
    stored.put(second, trained, trained, node("distill", after=trained))
    assert plan(stored, first, second, references=[Quantize()]) == [
        ("quantize", False), ("train", True), ("distill", True),
    ]  # fmt: skip
    assert stored.asked[0] == ("quantize", BASELINE.digest, None)


def test_seconds_are_those_of_the_same_lineage() -> None:
    asked: list[tuple[bool, tuple[str, ...]]] = []

    def seconds(reference: bool, lineage: Sequence[str]) -> float | None:
        asked.append((reference, tuple(lineage)))
        return float(len(lineage))

    spec = TaskSpec(image_classification=ImageClassification(npz="x.npz"))
    pipeline = Pipeline(
        task=spec, model=ModelSpec(checkpoint="x"), stages=[Train(epochs=1), Quantize()], references=[Quantize()]
    )
    lines = planned(pipeline, BASELINE, Stored().find, seconds)
    assert lines == (PlanLine("quantize", False, 2.0), PlanLine("train", False, 2.0), PlanLine("quantize", False, 3.0))
    assert asked == [
        (True, ("baseline", "quantize")), (False, ("baseline", "train")), (False, ("baseline", "train", "quantize")),
    ]  # fmt: skip
