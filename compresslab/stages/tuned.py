"""A stage of which some settings are still to be chosen: its variants compete on validation.

What trains epoch by epoch is stopped early where it loses; what cannot be stopped is made and measured (`fastest`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from compresslab.candidate import Candidate
from compresslab.errors import Diverged
from compresslab.stage import Stage
from compresslab.stages.fastest import Rival, chosen_before, chosen_by_measuring
from compresslab.world import on_main

if TYPE_CHECKING:
    from pathlib import Path

    from compresslab.stage import Context

# After these shares of the epochs the worse half stops: successive halving (Jamieson and Talwalkar, "Non-stochastic
# Best Arm Identification and Hyperparameter Optimization", AISTATS 2016, arXiv 1502.07943).
_RUNGS = (0.25, 0.5, 1.0)

KeyPath = tuple[str | int, ...]


@runtime_checkable
class Tunable(Stage, Protocol):
    """A stage that can be stopped on its way and judged."""

    @property
    def epochs(self) -> int:
        """Of the whole training."""

    def begin(self, candidate: Candidate, context: Context, epochs: int) -> float:
        """Trains the first `epochs`; returns the quality on validation. `apply` goes on from there."""


@dataclass(frozen=True)
class Variant:
    """A stage with one choice made: for each tuned setting, by its path inside the stage, the value."""

    choice: Mapping[KeyPath, Any]
    stage: Stage


@dataclass(frozen=True)
class Tuned:
    """Stages that differ in the tuned settings; `apply` gives what the best one on validation gives.

    Of trainings it is the one of the highest quality; all train with the schedule of the whole training, so the one
    that is left needs no second training. Of other stages it is the fastest one within the budget.
    """

    variants: tuple[Variant, ...]

    @property
    def kind(self) -> str:
        """That of the stage."""
        return self.first.kind

    @property
    def version(self) -> int:
        """That of the stage."""
        return self.first.version

    @property
    def first(self) -> Stage:
        """The stage with the first value of every tuned setting."""
        return self.variants[0].stage

    @property
    def assesses(self) -> bool:
        """Whether the variants are measured and held against the budget, so that the choice depends on both."""
        return not isinstance(self.first, Tunable)

    def model_dump(self, *, mode: Literal["json", "python"] = "python") -> dict[str, Any]:
        """The settings, with `{"tune": [...]}` in place of each value that is to be chosen."""
        settings = self.first.model_dump(mode=mode)
        for path in self.variants[0].choice:
            put(settings, path, {"tune": self.values(path)})
        return settings

    def values(self, path: KeyPath) -> list[Any]:
        """What a tuned setting may be, in the order given."""
        found: list[Any] = []
        for variant in self.variants:
            if variant.choice[path] not in found:
                found.append(variant.choice[path])
        return found

    def apply(self, candidate: Candidate, context: Context) -> tuple[Candidate, ...]:
        """What the best variant makes; its decisions tell what was tried and how it did."""
        if self.assesses:
            places = range(len(self.variants))
            rivals = [Rival(_plain(one.choice), self._named(n), one.stage) for n, one in enumerate(self.variants)]
            contexts = [self._context(context, n) for n in places]
            if context.decided is None:
                made, tuned = chosen_by_measuring(rivals, candidate, contexts)
            else:
                made, tuned = chosen_before(rivals, candidate, contexts, context.decided)
        else:
            made, tuned = self._by_training(candidate, context)
        return tuple(_with_decisions(one, {"tuned": tuned}) for one in made)

    def _by_training(self, candidate: Candidate, context: Context) -> tuple[tuple[Candidate, ...], dict[str, Any]]:
        scores = _Scores(context.scratch / "tuning.json")
        alive = list(range(len(self.variants)))
        for share in _RUNGS:
            if len(alive) == 1:
                break
            quality = {one: self._reached(one, share, scores, candidate, context) for one in alive}
            if not any(map(math.isfinite, quality.values())):
                raise Diverged(f"every value that was to be tried diverged: {', '.join(map(self._named, alive))}")
            # Of equals, the one that was named first.
            ranked = sorted(alive, key=lambda one: (-quality[one], one))
            kept = ranked[: 1 if share == _RUNGS[-1] else math.ceil(len(alive) / 2)]
            alive = [one for one in kept if math.isfinite(quality[one])]
            told = ", ".join(f"{self._named(one)} {_figure(quality[one])}" for one in ranked)
            context.progress.note(f"tuning, after {share:.0%} of the epochs: {told}")
        best = alive[0]
        made = self.variants[best].stage.apply(candidate, self._context(context, best))
        tuned = {
            "chosen": _plain(self.variants[best].choice),
            "tried": [
                {**_plain(self.variants[one].choice), "epochs": epochs,
                 "validation": round(value, 6) if math.isfinite(value) else None}
                for one, epochs, value in scores.all()
            ],
        }  # fmt: skip
        return made, tuned

    def _reached(self, one: int, share: float, scores: _Scores, candidate: Candidate, context: Context) -> float:
        """A variant's quality on validation after a share of its epochs; -inf where its training diverged."""
        stage = self.variants[one].stage
        assert isinstance(stage, Tunable), "all variants are of one kind"
        epochs = max(1, math.ceil(stage.epochs * share))
        known = on_main(lambda: scores.get(one, epochs))
        if known is not None:
            return known
        try:
            found = stage.begin(candidate, self._context(context, one), epochs)
        except Diverged:
            found = -math.inf
        return on_main(lambda: scores.put(one, epochs, found))

    def _context(self, context: Context, variant: int) -> Context:
        names = frozenset(str(path[-1]) for path in self.variants[variant].choice)
        return replace(context, scratch=context.scratch / f"variant{variant}", tuned=names)

    def _named(self, variant: int) -> str:
        return " ".join(f"{path[-1]} {value}" for path, value in self.variants[variant].choice.items())


class _Scores:
    """What the variants reached, kept as it becomes known: a killed run must not judge by another epoch's weights.

    With several processes the main one's alone count.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: dict[str, float] = {}
        if path.exists():
            self._found = json.loads(path.read_text(encoding="utf-8"))

    def get(self, variant: int, epochs: int) -> float | None:
        return self._found.get(f"{variant} {epochs}")

    def put(self, variant: int, epochs: int, value: float) -> float:
        self._found[f"{variant} {epochs}"] = value
        self._path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_suffix(".partial")
        partial.write_text(json.dumps(self._found), encoding="utf-8")
        partial.replace(self._path)
        return value

    def all(self) -> Sequence[tuple[int, int, float]]:
        """(variant, epochs, quality), in the order they were found."""
        return [(int(key.split()[0]), int(key.split()[1]), value) for key, value in self._found.items()]


def _figure(quality: float) -> str:
    return f"{quality:.4f}" if math.isfinite(quality) else "diverged"


def put(settings: Any, path: KeyPath, value: object) -> None:
    """Replaces one value inside nested dictionaries and lists."""
    for part in path[:-1]:
        settings = settings[part]
    settings[path[-1]] = value


def dotted(path: KeyPath) -> str:
    """The path as text: `losses[0].kd.temperature`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


def _plain(choice: Mapping[KeyPath, Any]) -> dict[str, Any]:
    return {dotted(path): value for path, value in choice.items()}


def _with_decisions(candidate: Candidate, more: Mapping[str, Any]) -> Candidate:
    step = candidate.lineage[-1]
    last = replace(step, decisions={**step.decisions, **more})
    return replace(candidate, lineage=(*candidate.lineage[:-1], last))
