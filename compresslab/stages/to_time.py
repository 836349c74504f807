"""Pruning to a time: widths are searched by prediction, and what comes out is measured until the time is met."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from compresslab.candidate import TorchModel
from compresslab.errors import ModelError
from compresslab.measure.measurement import Estimate
from compresslab.models.blocks import without_blocks
from compresslab.pruning import (
    Allocation,
    Block,
    Choice,
    Costs,
    Problem,
    Sensitivity,
    Verdict,
    allocate,
    best_units,
    block_damage,
    cut,
    find_blocks,
    group_sensitivity,
    layers_of,
    verdict,
    without,
)
from compresslab.quantization import QuantizerSettings, calibrate, convert, prepare

if TYPE_CHECKING:
    from torch import Tensor, nn

    from compresslab.pruning import Damage, Groups, Precision
    from compresslab.stage import Context
    from compresslab.stages.prune import Prune

_ROUNDS = 3
# A network is within its time if it takes no more than this beyond it: less than processes differ by.
_TOLERANCE = 0.02
# Of the whole network, what a width must save to be looked at.
_NOTICEABLE = 0.001
_CALIBRATION = 512
_BATCH = 128


@dataclass(frozen=True)
class Cut:
    """A network that was cut to a time, and the record of how it came to be."""

    model: TorchModel
    widths: Mapping[str, int]
    removed: tuple[str, ...]
    record: Mapping[str, Any]
    sensitivity: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Uncut:
    """What is cut: a network, the groups and the blocks that can go, and what their going damages.

    Args:
        model: The incoming network, or what an earlier step has left of it.
        groups: Found in it.
        scores: Which units of a group go first.
        damage: Judges what is cut from it.
    """

    model: TorchModel
    groups: Groups
    scores: Mapping[str, Tensor]
    damage: Damage

    def without(self, allocation: Allocation) -> TorchModel:
        """The network that an allocation leaves, its weights its own."""
        keep = best_units(self.groups, self.scores, allocation.keep)
        module = cut(self.model.module, self.groups, keep)
        builder = self.model.builder
        if allocation.removed:
            module = without(module, allocation.removed)
            builder = None if builder is None else without_blocks(builder, allocation.removed)
        return replace(self.model, module=module, builder=builder)


class ToTime:
    """Cuts networks to a time, by prediction; the last cut is measured, and corrected where it misses.

    Args:
        stage: What was asked for.
        start: The incoming network: its time is the measure of `latency`.
        context: With the clock.
    """

    def __init__(self, stage: Prune, start: TorchModel, context: Context) -> None:
        self._stage, self._context = stage, context
        self.precision: Precision = stage.precision or context.ships
        self._example = torch.from_numpy(context.task.first("calibration"))
        self._shipped = self._ship(start)

    def cut(self, uncut: Uncut, share: float, *, last: bool) -> Cut:
        """The widths, and the blocks to go, that damage least within the time.

        Args:
            uncut: What is cut.
            share: Of the incoming network's time that may be left; not read where the stage names milliseconds.
            last: Whether what comes out must be within the time by measurement. Otherwise it is predicted alone.

        Raises:
            ModelError: No widths are that fast.
        """
        clock = self._context.clock
        shipped = self._ship(uncut.model)
        start, now = clock.measure([self._shipped, shipped])
        wanted = share if self._stage.latency_ms is None else self._stage.latency_ms / start.ms
        table = clock.table(self.precision)
        layers = layers_of(uncut.model.module, self._example)
        beside = clock.beside(shipped, self.precision)
        costs = Costs(
            layers, uncut.groups, table,
            measured_ms=start.ms * now.share.value, beside=beside, step=self._stage.round_to,
        )  # fmt: skip
        problem, judged = self._problem(uncut, costs)
        tried: list[Attempt] = []
        aim = wanted
        while len(tried) < (_ROUNDS if last else 1):
            allocation = allocate(problem, aim * start.ms, uncut.groups.kept)
            if any(one.allocation == allocation for one in tried):
                break
            measured = clock.measure([self._shipped, self._ship(uncut.without(allocation))])[1].share if last else None
            gone = _layers_in(uncut.model.module, allocation.removed)
            share_now = None if measured is None else _over(measured, now.share.value)
            tried.append(Attempt(allocation, measured, verdict(costs, allocation.keep, gone, share_now)))
            if measured is None:
                break
            self._context.progress.note(f"{tried[-1].verdict.sentence}; {wanted:.3g} of the whole is asked for")
            if abs(measured.value / wanted - 1) <= _TOLERANCE:
                break
            aim *= wanted / measured.value
        best = _best(tried, wanted)
        record = {
            "precision": self.precision,
            "start_ms": round(start.ms, 6),
            "asked": round(wanted, 6),
            "predicted": round(best.allocation.ms / start.ms, 6),
            "measured": None if best.measured is None else _plain(best.measured),
            "units": dict(best.allocation.keep),
            "removed": list(best.allocation.removed),
            "verdict": best.verdict.plain(),
            "attempts": [one.to_plain() for one in tried],
            "table": table.digest,
        }
        allocation = best.allocation
        return Cut(uncut.without(allocation), allocation.keep, allocation.removed, record, judged.to_plain())

    @staticmethod
    def replayed(uncut: Uncut, record: Mapping[str, Any]) -> Cut:
        """The same cut as an earlier run decided it.

        Raises:
            ModelError: The decision names groups, units or blocks that are not there.
        """
        units, removed = record.get("units"), record.get("removed")
        known = {group.name for group in uncut.groups}
        if not isinstance(units, dict) or not isinstance(removed, list) or not set(units) <= known:
            raise ModelError(
                "the lock file's decision does not name the units of this network's groups; leave `decided` out of it "
                "to decide anew"
            )
        allocation = Allocation(units, tuple(removed), 0.0, 0.0)
        return Cut(uncut.without(allocation), units, tuple(removed), record)

    def _problem(self, uncut: Uncut, costs: Costs) -> tuple[Problem, Sensitivity]:
        """What may be cut, with the damage of each group alone at every width that saves time."""
        module, damage = uncut.model.module, uncut.damage
        levels = {group.name: _worth_a_look(costs, group.name, costs.levels[group.name]) for group in uncut.groups}
        count = sum(map(len, levels.values())) - len(levels)
        self._context.progress.start(f"{self._stage.kind}: judging widths by their damage", count)
        choices, judged = [], []
        for group in uncut.groups:
            kept = levels[group.name]
            found = group_sensitivity(module, group, uncut.scores, damage, reversed(kept[:-1]))
            self._context.progress.advance(len(found.levels))
            judged.append(found)
            # Never less than that of a wider one: what a cut seems to gain is no licence for the next.
            rising = itertools.accumulate((level.damage for level in found.levels), max, initial=0.0)
            choices.append(Choice(group.name, kept, tuple(reversed(list(rising)))))
        names = find_blocks(module, self._example).names if self._stage.blocks == "auto" else ()
        blocks = [
            Block(name, _layers_in(module, [name]), lost) for name, lost in block_damage(module, names, damage).items()
        ]
        return Problem(choices, costs.terms, costs.fixed_ms, blocks), Sensitivity(0.0, tuple(judged))

    def _ship(self, model: TorchModel) -> TorchModel:
        """The network in the precision that will ship, calibrated quickly: kernels do not look at values."""
        if self.precision == "fp32":
            return model
        task = self._context.task
        prepared = prepare(model.module, self._example, QuantizerSettings(observer="minmax"))
        rows = np.arange(min(_CALIBRATION, len(task.splits["calibration"].inputs)))
        calibrate(prepared, (torch.from_numpy(task.batch("calibration", part, None))
                             for part in np.array_split(rows, -(-len(rows) // _BATCH))))  # fmt: skip
        return replace(model, module=convert(prepared), builder=None)


@dataclass(frozen=True)
class Attempt:
    """Widths, and what came of them; `measured` is their share of the incoming network's time, where it is known."""

    allocation: Allocation
    measured: Estimate | None
    verdict: Verdict

    def to_plain(self) -> dict[str, Any]:
        """As the decisions have it."""
        measured = None if self.measured is None else _plain(self.measured)
        return {"measured": measured, "units": dict(self.allocation.keep), "removed": list(self.allocation.removed)}


def _best(tried: Sequence[Attempt], wanted: float) -> Attempt:
    """The least damaged of those within the time, or the fastest where none is."""
    within = [one for one in tried if one.measured is None or one.measured.value <= wanted * (1 + _TOLERANCE)]
    if within:
        return min(within, key=lambda one: one.allocation.damage)
    return min(tried, key=lambda one: one.measured.value if one.measured is not None else math.inf)


def _worth_a_look(costs: Costs, group: str, levels: Sequence[int]) -> tuple[int, ...]:
    """Those that are faster than every wider one: a layer takes as long anywhere on a step."""
    found, least = [levels[-1]], costs.ms({})
    for units in reversed(levels[:-1]):
        ms = costs.ms({group: units})
        if ms < least * (1 - _NOTICEABLE):
            found.append(units)
            least = ms
    return tuple(reversed(found))


def _layers_in(module: nn.Module, blocks: Sequence[str]) -> frozenset[str]:
    """The layers that vanish with these blocks."""
    return frozenset(
        name for name, _ in module.named_modules() if any(name.startswith(f"{block}.") for block in blocks)
    )


def _over(estimate: Estimate, divisor: float) -> Estimate:
    return Estimate(estimate.value / divisor, estimate.low / divisor, estimate.high / divisor)


def _plain(share: Estimate) -> dict[str, float]:
    return {"value": round(share.value, 6), "low": round(share.low, 6), "high": round(share.high, 6)}
