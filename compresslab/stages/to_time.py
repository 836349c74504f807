"""Pruning to a time: widths are searched by prediction, and what comes out is measured until the time is met."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from compresslab.candidate import TorchModel
from compresslab.models.blocks import without_blocks
from compresslab.pruning import (
    Allocation,
    Block,
    Choice,
    Costs,
    Problem,
    allocate,
    best_units,
    cut,
    find_blocks,
    layers_of,
    without,
)
from compresslab.quantization import QuantizerSettings, calibrate, convert, prepare

if TYPE_CHECKING:
    from torch import Tensor

    from compresslab.measure.measurement import Estimate
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
        return TorchModel(module, builder)


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
        self._example = torch.from_numpy(context.task.batch("calibration", np.arange(2), None))
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
        start, now = self._context.clock.measure([self._shipped, self._ship(uncut.model)])
        wanted = share if self._stage.latency_ms is None else self._stage.latency_ms / start.ms
        table = self._context.clock.table(self.precision)
        layers = layers_of(uncut.model.module, self._example)
        table.ms(layer.sized for layer in layers)
        costs = Costs(
            layers, uncut.groups, table,
            measured_ms=start.ms * now.share.value, fixed_ms=table.call_ms, step=self._stage.round_to,
        )  # fmt: skip
        problem, judged = self._problem(uncut, costs)
        tried: list[Attempt] = []
        aim = wanted
        while len(tried) < (_ROUNDS if last else 1):
            allocation = allocate(problem, aim * start.ms, uncut.groups.kept)
            if any(one.allocation == allocation for one in tried):
                break
            predicted = allocation.ms / start.ms
            if not last:
                tried.append(Attempt(allocation, predicted, None))
                break
            measured = self._context.clock.measure([self._shipped, self._ship(uncut.without(allocation))])[1].share
            tried.append(Attempt(allocation, predicted, measured))
            self._context.progress.note(
                f"{allocation.ms:.3g} ms predicted, {predicted:.3f} of the time; measured {measured.value:.3f} "
                f"[{measured.low:.3f}, {measured.high:.3f}], and {wanted:.3f} is asked for"
            )
            if abs(measured.value / wanted - 1) <= _TOLERANCE:
                break
            aim *= wanted / measured.value
        best = _best(tried, wanted)
        model = uncut.without(best.allocation)
        record = {
            "precision": self.precision,
            "start_ms": round(start.ms, 6),
            "asked": round(wanted, 6),
            "attempts": [one.to_plain() for one in tried],
            "predicted": round(best.predicted, 6),
            "measured": None if best.measured is None else _plain(best.measured),
            "table": table.digest,
            "damage": judged,
        }
        return Cut(model, best.allocation.keep, best.allocation.removed, record)

    def _problem(self, uncut: Uncut, costs: Costs) -> tuple[Problem, dict[str, Any]]:
        """What may be cut, with the damage of each group alone at every width that saves time."""
        module, damage = uncut.model.module, uncut.damage
        levels = {group.name: _worth_a_look(costs, group.name, costs.levels[group.name]) for group in uncut.groups}
        self._context.progress.note(
            f"judging {sum(map(len, levels.values())) - len(levels)} widths of {len(levels)} groups by their damage"
        )
        choices, judged = [], dict[str, Any]()
        for group in uncut.groups:
            found = [0.0]
            for units in reversed(levels[group.name][:-1]):
                keep = best_units([group], uncut.scores, {group.name: units})
                found.append(max(found[-1], damage(cut(module, [group], keep, share=True))))
            choices.append(Choice(group.name, levels[group.name], tuple(reversed(found))))
            judged[group.name] = {
                "units": list(levels[group.name]), "damage": [round(value, 6) for value in reversed(found)],
            }  # fmt: skip
        blocks = []
        if self._stage.blocks == "auto":
            for name in find_blocks(module, self._example).names:
                lost = damage(without(module, [name], share=True))
                layers = frozenset(one for one, _ in module.named_modules() if one.startswith(f"{name}."))
                blocks.append(Block(name, layers, lost))
                judged[name] = {"block": round(lost, 6)}
        return Problem(choices, costs.terms, costs.fixed_ms, blocks), judged

    def _ship(self, model: TorchModel) -> TorchModel:
        """The network in the precision that will ship, calibrated quickly: kernels do not look at values."""
        if self.precision == "fp32":
            return model
        task = self._context.task
        prepared = prepare(model.module, self._example, QuantizerSettings(observer="minmax"))
        rows = np.arange(min(_CALIBRATION, len(task.splits["calibration"].inputs)))
        calibrate(prepared, (torch.from_numpy(task.batch("calibration", part, None))
                             for part in np.array_split(rows, -(-len(rows) // _BATCH))))  # fmt: skip
        return TorchModel(convert(prepared), None)


@dataclass(frozen=True)
class Attempt:
    """Widths that were predicted to take a share of the time, and what they were measured to take, where they were."""

    allocation: Allocation
    predicted: float
    measured: Estimate | None

    def to_plain(self) -> dict[str, Any]:
        """As the decisions have it."""
        measured = None if self.measured is None else _plain(self.measured)
        return {"predicted": round(self.predicted, 6), "measured": measured, "units": dict(self.allocation.keep)}


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


def _plain(share: Estimate) -> dict[str, float]:
    return {"value": round(share.value, 6), "low": round(share.low, 6), "high": round(share.high, 6)}
