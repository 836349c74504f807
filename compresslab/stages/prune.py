"""prune: what matters least is cut out for good, until a share of the network or of its time is left."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from compresslab.candidate import Candidate, TorchModel
from compresslab.distillation import Recipe, learn
from compresslab.errors import ModelError
from compresslab.models.blocks import without_blocks
from compresslab.one_of import the_one
from compresslab.pruning import (
    CRITERIA,
    Damage,
    ImportanceName,
    Precision,
    Scope,
    best_units,
    block_damage,
    cut,
    find_blocks,
    find_groups,
    gather,
    judge,
    own,
    reconstruct,
    schedule,
    sensitivity,
    sizes,
    widths,
    widths_by_sensitivity,
    without,
)
from compresslab.settings import Settings
from compresslab.stages.to_time import ToTime, Uncut
from compresslab.user_code import CodeReference

if TYPE_CHECKING:
    from compresslab.pruning import Group, Groups, Target
    from compresslab.pruning.shares import Reached
    from compresslab.stage import Context

_BATCH = 250
_JUDGED = 512
_REFITTED = 1000
TARGETS = ("ratio", "channels", "parameters", "macs", "latency", "latency_ms")


class OwnImportance(Settings):
    """A function of the user's own, `module:function`, called with `evidence` and `group`; see `pruning.importance`."""

    python: CodeReference


class Prune(Settings):
    """Cuts out what matters least, and trains what is left. Exactly one target, or `blocks`, or both."""

    kind: ClassVar[str] = "prune"
    version: ClassVar[int] = 2

    ratio: float | None = Field(None, gt=0, lt=1)
    """Share of the channels to remove: `channels: 0.7` in the field's other words."""
    channels: float | None = Field(None, gt=0, lt=1)
    """Share of the channels that stays. Parameters fall faster, about as its square."""
    parameters: float | None = Field(None, gt=0, lt=1)
    """Share of the parameters that stays."""
    macs: float | None = Field(None, gt=0, lt=1)
    """Share of the multiply-adds that stays. They are not time."""
    latency: float | None = Field(None, gt=0, lt=1)
    """Share of the incoming network's time that stays, measured at the deployment point. Widths are searched with a
    table of what each layer takes on this machine, and what comes out is measured."""
    latency_ms: float | None = Field(None, gt=0)
    """The time itself, in milliseconds, instead of a share of it."""
    precision: Precision | None = None
    """Whose time `latency` means: of the network in `fp32`, or in `int8`; null is what the pipeline ends with."""
    importance: ImportanceName | OwnImportance = "magnitude"
    """Which units go first. Those that read samples (`taylor`, `hessian`, `activation`) read the calibration split."""
    scope: Scope | Literal["sensitivity"] = "global"
    """`global`: the units of all layers compete; `local`: every layer keeps the same share; `isomorphic`: units compete
    in layers of the same structure; `sensitivity`: every layer is cut until it alone does the same damage. A target of
    latency has a search instead, which weighs damage against time."""
    round_to: int = Field(8, ge=1)
    """Widths become multiples of this: the SIMD width of what will run the model, or it gets slower."""
    blocks: int | Literal["auto"] = Field(0, union_mode="left_to_right")
    """How many whole residual blocks or transformer layers go first, those that are missed least; `auto` lets the
    search for a latency decide."""
    steps: int = Field(1, ge=1)
    """The cut is made in so many steps, each followed by `recover`."""
    reconstruct: bool = False
    """After each cut, and before `recover`, the weights that are left are refitted by least squares, layer by layer, so
    that each layer gives again what it gave before, on the calibration split. It needs no labels, and is undone where
    the network's answers are not nearer for it. Worth most where little or no training follows; see docs/pruning.md."""
    recover: Recipe | None = Recipe(epochs=2, learning_rate=0.02)
    """Training after each cut, with the teacher where there is one. Accuracy before it says nothing."""

    @model_validator(mode="after")
    def _check(self) -> Prune:
        if self.given is None and not self.blocks:
            targets = ", ".join(f"`{name}`" for name in TARGETS)
            raise ValueError(f"one of {targets} must say how far to go, or `blocks` how many go, but got none")
        if self.given is not None:
            the_one(self, TARGETS)
        if self.latency_ms is not None and self.steps > 1:
            raise ValueError("`steps` divides a share: give `latency` instead of `latency_ms`, or `steps: 1`")
        if self.blocks == "auto" and not self.timed:
            raise ValueError("`blocks: auto` weighs blocks by their time: give `latency` or `latency_ms`, or a number")
        if isinstance(self.blocks, int) and self.blocks < 0:
            raise ValueError(f"`0 <= blocks` must hold, but got {self.blocks}")
        if self.precision is not None and not self.timed:
            raise ValueError("`precision` says whose time is meant: give `latency` or `latency_ms`, or leave it out")
        return self

    @property
    def given(self) -> str | None:
        """The target that was given; None where only blocks go."""
        return next((name for name in TARGETS if getattr(self, name) is not None), None)

    @property
    def target(self) -> Target:
        """What a share is of, where no clock is asked."""
        return "parameters" if self.parameters else "macs" if self.macs else "channels"

    @property
    def timed(self) -> bool:
        """Whether it asks a clock."""
        return self.latency is not None or self.latency_ms is not None

    @property
    def code(self) -> tuple[str, ...]:
        """The user's own functions that it calls."""
        return (self.importance.python,) if isinstance(self.importance, OwnImportance) else ()

    def apply(self, candidate: Candidate, context: Context) -> tuple[Candidate, ...]:
        """The network with less in it, recovered.

        Raises:
            ModelError: The network cannot be traced, nothing can be cut, the importance cannot be judged, or the
                target cannot be reached.
        """
        model = candidate.network
        context = context.reading(model)
        work = _Application(self, model, context)
        if isinstance(self.blocks, int) and self.blocks:
            model = work.without_blocks(model, self.blocks)
        if self.given is not None:
            for number, share in enumerate(self._shares(), 1):
                model = work.narrowed(model, share, last=number == self.steps)
                if number < self.steps:
                    work.recover(model.module, f"recover {number} of {self.steps}")
        work.recover(model.module, "recover")
        return (candidate.then(model, context.step(self, work.decisions())),)

    def _shares(self) -> Sequence[float]:
        """What each step leaves of the network before the first."""
        assert self.given is not None, "there is something to reach"
        if self.latency_ms is not None:
            return (1.0,)  # the time itself is what is aimed at
        asked: float = getattr(self, self.given)
        return schedule(1 - asked if self.given == "ratio" else asked, self.steps)


@dataclass
class _Application:
    """One application of the stage, and what it decided so far."""

    stage: Prune
    start: TorchModel
    context: Context
    left: float = 1.0
    removed: list[str] = field(default_factory=list)
    block_damage: dict[str, float] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    widths: dict[str, list[int]] = field(default_factory=dict)
    timed: list[Mapping[str, Any]] = field(default_factory=list)
    sensitivity: dict[str, Any] | None = None
    refits: list[dict[str, Any]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.example = torch.from_numpy(self.context.task.first("calibration"))
        self.to_time = ToTime(self.stage, self.start, self.context) if self.stage.timed else None

    def without_blocks(self, model: TorchModel, count: int) -> TorchModel:
        """The network without the blocks whose going damages its answers least, one after the other."""
        for _ in range(count):
            found = find_blocks(model.module, self.example)
            if not found.names:
                reasons = "; ".join(f"`{name}`: {reason}" for name, reason in found.kept.items())
                raise ModelError(
                    f"`blocks: {count}`: no block can be removed once {len(self.removed)} are gone; "
                    f"{reasons or 'no nn.Sequential or nn.ModuleList holds residual blocks or transformer layers'}"
                )
            damages = block_damage(model.module, found.names, self._damage(model.module))
            lost, name = min((lost, name) for name, lost in damages.items())
            self.context.progress.note(f"block `{name}` goes: of {len(found.names)}, it is missed least")
            builder = None if model.builder is None else without_blocks(model.builder, [name])
            smaller = replace(model, module=without(model.module, [name]), builder=builder)
            model = self._refitted(model, smaller, (), {}, [name])
            self.removed.append(name)
            self.block_damage[name] = round(lost, 6)
        return model

    def narrowed(self, model: TorchModel, share: float, *, last: bool) -> TorchModel:
        """The network with fewer units.

        Args:
            model: What is cut now.
            share: What shall be left in the end of this step, of the network before the first.
            last: Whether this is the last step.
        """
        groups = find_groups(model.module, self.example)
        self.kept = dict(groups.kept)
        importance = self.stage.importance
        criterion = own(importance.python) if isinstance(importance, OwnImportance) else CRITERIA[importance]
        evidence = gather(
            model.module, groups, self._samples(), self.context.task.loss, criterion.reads, seed=self.context.seed
        )
        scores = judge(criterion, evidence, groups)
        if self.to_time is not None:
            uncut = Uncut(model, groups, scores, self._damage(model.module))
            decided = self._decided(len(self.timed))
            found = (
                self.to_time.cut(uncut, share, last=last) if decided is None else self.to_time.replayed(uncut, decided)
            )
            self.timed.append(found.record)
            self.removed.extend(found.removed)
            decided_then = self.context.decided[0].get("sensitivity") if self.context.decided else None
            self.sensitivity = decided_then if found.sensitivity is None else dict(found.sensitivity)
            kept, smaller, removed = found.widths, found.model, found.removed
        else:
            reached = self._reached(model.module, groups, scores, share / self.left, comparable=criterion.comparable)
            self.left *= reached.share
            kept, removed = reached.widths, ()
            smaller = replace(model, module=cut(model.module, groups, best_units(groups, scores, kept)))
        model = self._refitted(model, smaller, groups, best_units(groups, scores, kept), removed)
        for group in groups:
            if kept.get(group.name, group.units) < group.units:
                self.widths.setdefault(group.name, [group.units, 0])[1] = kept[group.name]
        return model

    def recover(self, module: nn.Module, phase: str) -> None:
        """Trains what is left."""
        if self.stage.recover is not None:
            history = learn(module, self.stage.recover, self.context, phase)
            self.losses += [round(epoch.loss, 6) for epoch in history]

    def decisions(self) -> dict[str, Any]:
        """What was decided, as plain data."""
        found: dict[str, Any] = {"widths": self.widths, "kept_whole": self.kept}
        if self.removed:
            found |= {"removed_blocks": self.removed, "block_damage": self.block_damage}
        if self.timed:
            earlier = [dict(one) for one in self.timed[:-1]]
            found["latency"] = {**self.timed[-1], "steps": earlier}
        elif self.widths:
            found["left"] = {self.stage.target: round(self.left, 6)}
        if self.sensitivity is not None:
            found["sensitivity"] = self.sensitivity
        if self.refits:
            found["reconstruction"] = self.refits
        return found | ({"loss": self.losses} if self.losses else {})

    def _refitted(
        self,
        whole: TorchModel,
        smaller: TorchModel,
        groups: Iterable[Group],
        keep: Mapping[str, Iterable[int]],
        removed: Sequence[str],
    ) -> TorchModel:
        """The cut network with its weights refitted, if that is asked for and brings its answers nearer."""
        if not self.stage.reconstruct:
            return smaller
        task = self.context.task
        inputs = torch.from_numpy(task.batch("calibration", np.arange(len(task.splits["calibration"].inputs)), None))
        made = replace(smaller, module=copy.deepcopy(smaller.module))
        layers = reconstruct(
            made.module, whole.module, groups, keep, inputs[:_REFITTED], removed=removed, seed=self.context.seed
        )
        damage = self._damage(whole.module)
        before, after = damage(smaller.module), damage(made.module)
        self.refits.append({"layers": len(layers), "damage_before": round(before, 6), "damage": round(after, 6)})
        self.context.progress.note(
            f"{len(layers)} layers refitted: the damage is {after:.3g}, without {before:.3g}"
            + ("" if after < before else "; the weights stay as they were cut")
        )
        return made if after < before else smaller

    def _decided(self, step: int) -> Mapping[str, Any] | None:
        """What an earlier run decided at this step, where its lock file is replayed."""
        if self.context.decided is None:
            return None
        record = self.context.decided[0].get("latency", {}) if self.context.decided else {}
        steps = [*record.get("steps", ()), record]
        if len(steps) != self.stage.steps:
            raise ModelError(
                f"the lock file has decisions for {len(steps)} steps of {self.stage.steps}; leave `decided` out of it "
                "to decide anew"
            )
        found: Mapping[str, Any] = steps[step]
        return found

    def _reached(
        self, module: nn.Module, groups: Groups, scores: Mapping[str, Tensor], share: float, *, comparable: bool
    ) -> Reached:
        counted = sizes(module, groups, self.example)
        target, round_to = self.stage.target, self.stage.round_to
        if self.stage.scope == "sensitivity":
            judged = sensitivity(module, groups, scores, self._damage(module))
            self.sensitivity = judged.to_plain()
            return widths_by_sensitivity(judged, groups, counted, target=target, share=share, round_to=round_to)
        return widths(
            module, groups, scores, counted,
            target=target, share=share, scope=self.stage.scope, round_to=round_to, comparable=comparable,
        )  # fmt: skip

    def _damage(self, module: nn.Module) -> Damage:
        task = self.context.task
        count = min(_JUDGED, len(task.splits["calibration"].inputs))
        inputs = torch.from_numpy(task.batch("calibration", np.arange(count), None))
        return Damage.of(module, inputs, classes=bool(task.labels))

    def _samples(self) -> Iterator[tuple[Tensor, Tensor]]:
        task = self.context.task
        split = task.splits["calibration"]
        if split.targets is None:
            raise ModelError("the calibration split has no labels")
        for first in range(0, len(split.inputs), _BATCH):
            rows = np.arange(first, min(first + _BATCH, len(split.inputs)))
            yield torch.from_numpy(task.batch("calibration", rows, None)), torch.from_numpy(split.targets[rows])
