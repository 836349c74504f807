"""Predicts how long a network takes with fewer units: its layers from a table, the rest from what was measured."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

from compresslab.errors import ModelError
from compresslab.pruning.geometry import DEPTHWISE, Layer, Sized, levels, step_for

if TYPE_CHECKING:
    from compresslab.pruning.groups import Group, Groups, Side

WHOLE: frozenset[str] = frozenset()
"""No layer is removed."""


class Times(Protocol):
    """Milliseconds of single layers: a measured table, or a function in its place."""

    def ms(self, layers: Iterable[Sized]) -> Mapping[Sized, float]:
        """The time of each of these, for the batch and the precision of the table."""


@dataclass(frozen=True)
class Beside:
    """What a network takes beside its layers, in milliseconds, such as `LatencyTable.beside` finds.

    Args:
        call_ms: A call, whatever the network.
        kernels_ms: Starting its operators: less with fewer of them, but not with narrower ones.
        rest_ms: What operators beside the layers do (additions, pooling, softmax, reordering): it shrinks with the
            volume of the activations. None for what the measurement exceeds all others by, if it does.
    """

    call_ms: float = 0.0
    kernels_ms: float = 0.0
    rest_ms: float | None = None


UNKNOWN = Beside()
"""All that the layers do not explain shrinks with the activations."""


@dataclass(frozen=True)
class Term:
    """A part of the time that depends on some groups alone.

    Args:
        layer: Whose time it is: it vanishes with the layer.
        groups: Names of the groups that it depends on.
        ms: From the units kept of each of them, to milliseconds.
    """

    layer: str
    groups: tuple[str, ...]
    ms: Callable[[tuple[int, ...]], float]


@dataclass(frozen=True)
class LayerTime:
    """A layer's widths, and its time as the table has it."""

    inputs: int
    outputs: int
    ms: float


@dataclass(frozen=True)
class _Side:
    """A side of a layer: its full width, and how many channels go with a unit of each group."""

    full: int
    of: tuple[tuple[str, int, int], ...] = ()  # group, its units, channels of each

    def width(self, keep: Mapping[str, int]) -> int:
        return self.full - sum((units - keep.get(group, units)) * each for group, units, each in self.of)

    def measured_width(self, keep: Mapping[str, int]) -> int:
        """What several groups feed has too many widths to measure them all: the next step above is about as slow."""
        width, step = self.width(keep), step_for(self.full)
        return width if len(self.of) <= 1 else min(self.full, math.ceil(width / step) * step)


@dataclass(frozen=True)
class _Scores:
    """An attention's heads, and how many values each compares tokens by: scores and their softmax."""

    group: str
    layer: str
    units: int
    each: int


class Costs:
    """The time of a network as a function of the units that each group keeps.

    The layers of the table are scaled to what the parts beside them leave of the measurement: in a network their
    weights come from farther away than alone, and it may have been measured on a busier machine. So the prediction for
    the whole network is the measurement.

    Args:
        layers: Of the network, see `layer_trace.layers_of`.
        groups: What can be cut from it.
        times: The table; asked at once for all the widths that the groups' levels can give.
        measured_ms: Of the whole network, as it ships; None for the sum of the table alone.
        beside: What the network takes beside the layers.
        step: Widths are multiples of this; None for what suits each width.

    Raises:
        ModelError: `measured_ms` is not positive.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        groups: Groups,
        times: Times,
        *,
        measured_ms: float | None = None,
        beside: Beside = UNKNOWN,
        step: int | None = None,
    ) -> None:
        if measured_ms is not None and measured_ms <= 0:
            raise ModelError(f"the measured time must be positive, but is {measured_ms} ms")
        self._layers = tuple(layers)
        self._times = times
        self._known: dict[Sized, float] = {}
        self.levels: Mapping[str, tuple[int, ...]] = {
            group.name: levels(group.units, group.members[0].each, 1 if group.kind == "heads" else step)
            for group in groups
        }
        self._sides = _sides(self._layers, groups)
        self._look_up([*self._on_levels(), *(layer.sized for layer in self._layers)])
        total = sum(self._known[layer.sized] for layer in self._layers)
        measured = total if measured_ms is None else measured_ms
        apart = total + beside.call_ms + beside.kernels_ms
        # Were the parts measured apart more than the whole, each would be a smaller part of it.
        shrink = min(1.0, measured / (apart + (beside.rest_ms or 0.0)))
        self.fixed_ms = beside.call_ms * shrink
        self._kernels = beside.kernels_ms * shrink
        self._rest = max(0.0, measured - apart) if beside.rest_ms is None else beside.rest_ms * shrink
        self._scale = (measured - self.fixed_ms - self._kernels - self._rest) / total
        scores = _scores(self._layers, groups)
        self._volume = float(sum(layer.positions * layer.sized.outputs for layer in self._layers))
        self._volume += sum(score.units * score.each for score in scores)
        self.terms = (*self._layer_terms(), *(self._score_term(score) for score in scores))

    def ms(self, keep: Mapping[str, int], removed: Collection[str] = WHOLE) -> float:
        """The time of the network with so many units of each group.

        Args:
            keep: Units by group; groups that are not named stay whole. Widths beside the levels are measured when
                they are asked for.
            removed: Names of layers that vanish, with whole blocks.
        """
        self._look_up(self._widths(keep, removed).values())
        full = {name: allowed[-1] for name, allowed in self.levels.items()} | dict(keep)
        present = (term for term in self.terms if term.layer not in removed)
        return self.fixed_ms + sum(term.ms(tuple(full[group] for group in term.groups)) for term in present)

    def share(self, keep: Mapping[str, int], removed: Collection[str] = WHOLE) -> float:
        """The time as a share of the whole network's."""
        return self.ms(keep, removed) / self.ms({})

    def layer_times(self, keep: Mapping[str, int], removed: Collection[str] = WHOLE) -> Mapping[str, LayerTime]:
        """Widths and times of the layers that stay, as the table has them; calls of one layer are added up."""
        sizes = self._widths(keep, removed)
        self._look_up(sizes.values())
        found = dict[str, LayerTime]()
        for place, sized in sizes.items():
            name = self._layers[place].name
            before = found[name].ms if name in found else 0.0
            inside, outside = self._sides[place]
            found[name] = LayerTime(inside.width(keep), outside.width(keep), before + self._known[sized])
        return found

    @property
    def parts(self) -> Mapping[str, float]:
        """What the prediction for the whole network is made of: its `layers`, and what is beside them, in ms."""
        layers = sum(self._known[layer.sized] for layer in self._layers) * self._scale
        return {"layers": layers, "rest": self._rest, "kernels": self._kernels, "call": self.fixed_ms}

    def _layer_terms(self) -> Iterable[Term]:
        for place, (layer, (inside, outside)) in enumerate(zip(self._layers, self._sides, strict=True)):
            names = tuple(dict.fromkeys(group for side in (inside, outside) for group, *_ in side.of))
            yield Term(layer.name, names, partial(self._layer_ms, place, names))

    def _layer_ms(self, place: int, names: tuple[str, ...], kept: tuple[int, ...]) -> float:
        sized = self._sized(place, dict(zip(names, kept, strict=True)))
        self._look_up([sized])
        volume = self._layers[place].positions * sized.outputs
        own = self._known[sized] * self._scale + self._kernels / len(self._layers)
        return own + self._rest * volume / self._volume

    def _score_term(self, score: _Scores) -> Term:
        return Term(score.layer, (score.group,), lambda kept: self._rest * kept[0] * score.each / self._volume)

    def _sized(self, place: int, keep: Mapping[str, int]) -> Sized:
        geometry = self._layers[place].sized.geometry
        inside, outside = self._sides[place]
        return Sized(geometry, inside.measured_width(keep), outside.measured_width(keep))

    def _widths(self, keep: Mapping[str, int], removed: Collection[str]) -> Mapping[int, Sized]:
        return {
            place: self._sized(place, keep) for place, layer in enumerate(self._layers) if layer.name not in removed
        }

    def _on_levels(self) -> Iterable[Sized]:
        """Every size that a layer can have when all groups are on one of their levels."""
        for place, (inside, outside) in enumerate(self._sides):
            names = dict.fromkeys(group for side in (inside, outside) if len(side.of) == 1 for group, *_ in side.of)
            several = [side for side in (inside, outside) if len(side.of) > 1]
            for kept in itertools.product(*(self.levels[name] for name in names)):
                sized = self._sized(place, dict(zip(names, kept, strict=True)))
                yield sized
                for side in several:
                    for width in range(step_for(side.full), side.full, step_for(side.full)):
                        yield Sized(
                            sized.geometry,
                            width if side is inside else sized.inputs,
                            width if side is outside else sized.outputs,
                        )

    def _look_up(self, sizes: Iterable[Sized]) -> None:
        missing = [sized for sized in dict.fromkeys(sizes) if sized not in self._known]
        if missing:
            self._known.update(self._times.ms(missing))


def _sides(layers: Sequence[Layer], groups: Groups) -> tuple[tuple[_Side, _Side], ...]:
    of = defaultdict[tuple[str, "Side"], list[tuple[str, int, int]]](list)
    for group in groups:
        for member in group.members:
            of[member.layer, member.side].append((group.name, group.units, member.each))
    sides = []
    for layer in layers:
        outside = _Side(layer.sized.outputs, tuple(of[layer.name, "out"]))
        # Where a depthwise convolution's channels come from is told on its outputs alone.
        depthwise = layer.sized.geometry.groups == DEPTHWISE
        sides.append((outside if depthwise else _Side(layer.sized.inputs, tuple(of[layer.name, "in"])), outside))
    return tuple(sides)


def _scores(layers: Sequence[Layer], groups: Iterable[Group]) -> tuple[_Scores, ...]:
    positions = {layer.name: layer.positions for layer in layers}
    return tuple(
        _Scores(group.name, group.members[0].layer, group.units, 2 * positions[group.members[0].layer] ** 2)
        for group in groups
        if group.kind == "heads" and group.members[0].layer in positions
    )
