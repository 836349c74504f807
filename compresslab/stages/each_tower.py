"""A stage of a model of several towers: an ordinary stage for each of them, side by side as one step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from compresslab.candidate import Candidate, Step, Towers
from compresslab.digest import digest_of
from compresslab.errors import ModelError
from compresslab.stages.distill import Distill

if TYPE_CHECKING:
    from compresslab.stage import Context, Stage


@dataclass(frozen=True)
class EachTower:
    """Applies to each tower its own stage; one that is not named stays as it is, so that an index of it stays valid.

    Args:
        towers: Stages of one kind, by the tower's name; at least one.
    """

    towers: Mapping[str, Stage]

    @property
    def first(self) -> Stage:
        """Of the first tower."""
        return next(iter(self.towers.values()))

    @property
    def kind(self) -> str:
        """That of all its stages."""
        return self.first.kind

    @property
    def version(self) -> int:
        """That of all its stages."""
        return self.first.version

    @property
    def inside(self) -> tuple[Stage, ...]:
        """The stages of the towers."""
        return tuple(self.towers.values())

    @property
    def timed(self) -> bool:
        """Whether one of them asks a clock."""
        return any(getattr(stage, "timed", False) for stage in self.inside)

    def model_dump(self, *, mode: Literal["json", "python"] = "python") -> dict[str, Any]:
        """The settings by tower."""
        return {name: stage.model_dump(mode=mode) for name, stage in self.towers.items()}

    def apply(self, candidate: Candidate, context: Context) -> tuple[Candidate, ...]:
        """The model with these towers changed; with a control of each tower also the controls together.

        Raises:
            ModelError: The model is one network, or the stages of its towers gave different numbers of candidates.
        """
        model = candidate.model
        if not isinstance(model, Towers):
            raise ModelError(f"`{self.kind}` is for {' and '.join(self.towers)}, but the model is one network")
        made = {name: stage.apply(candidate.tower(name), context.towers[name]) for name, stage in self.towers.items()}
        counts = {name: len(one) for name, one in made.items()}
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{count} of `{name}`" for name, count in counts.items())
            raise ModelError(f"`{self.kind}` must give as many candidates of each tower, but gave {told}")
        return tuple(
            self._joined(candidate, model, {name: one[number] for name, one in made.items()}, context, number)
            for number in range(next(iter(counts.values())))
        )

    def _joined(
        self, candidate: Candidate, model: Towers, made: Mapping[str, Candidate], context: Context, number: int
    ) -> Candidate:
        towers = dict(model.towers)
        decisions: dict[str, Any] = {}
        for name, one in made.items():
            assert not isinstance(one.model, Towers), "a tower is one network"
            towers[name] = one.model
            decisions[name] = dict(one.lineage[-1].decisions)
        if any(one.get("control") for one in decisions.values()):
            decisions["control"] = True
        settings = self.model_dump(mode="json")
        return candidate.then(Towers(towers), Step(self.kind, settings, decisions, digest_of([context.key, number])))


def each_tower(stage: Stage, names: Sequence[str], frozen: Sequence[str]) -> EachTower:
    """The stage for every tower that is not frozen; one that is for some towers already loses those that are.

    Raises:
        ValueError: All of its towers are frozen, or it is for none that the model has.
    """
    if isinstance(stage, EachTower):
        unknown = [name for name in stage.towers if name not in names]
        if unknown:
            raise ValueError(f"there is no tower `{unknown[0]}`; there are {', '.join(names)}")
        given = stage.towers
    else:
        given = {name: _of_tower(stage, name) for name in names}
    kept = {name: one for name, one in given.items() if name not in frozen}
    if not kept:
        raise ValueError(f"every tower that it is for is frozen ({', '.join(given)}), so it would do nothing")
    return EachTower(kept)


def _of_tower(stage: Stage, name: str) -> Stage:
    """A stage that says one thing for all towers, but for students, of which each has its own."""
    if not isinstance(stage, Distill) or stage.student is None:
        return stage
    student = stage.student.in_towers()
    if not student.towers:
        raise ValueError(
            "`student` must say for which tower it is: `student: {image: ...}`, `text` beside it where that starts "
            "anew too"
        )
    return stage.model_copy(update={"student": student.towers.get(name)})
