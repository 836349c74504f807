"""How many units each group keeps, and which blocks go, so that the least is damaged within a time.

A knapsack whose weights depend on each other: a layer's time is a step function of both its widths. The idea is HALP's
(Shen et al., NeurIPS 2022, arXiv 2110.10811); the search is our own: greedy, then prices on time, then exchanges.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from compresslab.errors import ModelError
from compresslab.pruning.exchange import improve
from compresslab.pruning.knapsack import Knapsack, State

if TYPE_CHECKING:
    from compresslab.pruning.costs import Term

_PRICES = 24
_TAKEN_FURTHER = 2


@dataclass(frozen=True)
class Choice:
    """What a group may keep.

    Args:
        group: Its name.
        units: Numbers of units that it may keep, rising; the last is all of them.
        damage: For each, what is lost with the units that go: never rising, zero at the end.

    Raises:
        ValueError: The numbers are not so.
    """

    group: str
    units: tuple[int, ...]
    damage: tuple[float, ...]

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in zip(self.units, self.units[1:], strict=False))
        falling = all(a >= b for a, b in zip(self.damage, self.damage[1:], strict=False))
        if not self.units or len(self.units) != len(self.damage) or not rising or not falling or self.damage[-1] != 0:
            raise ValueError(
                f"`{self.group}`: units must rise, and their damage must not rise and end at 0, but got "
                f"{self.units} and {self.damage}"
            )


@dataclass(frozen=True)
class Block:
    """A block that may go as a whole: the layers that vanish, and what is lost with all of it."""

    name: str
    layers: frozenset[str]
    damage: float


@dataclass(frozen=True)
class Allocation:
    """Units kept by group, the blocks that go, what is predicted to be left of the time, and the damage."""

    keep: Mapping[str, int]
    removed: tuple[str, ...]
    ms: float
    damage: float


@dataclass(frozen=True)
class Problem:
    """What may be cut, and what it costs.

    Args:
        choices: Of groups; those that a term names and no choice does stay whole, as `whole` says.
        terms: Of the time, such as `Costs.terms`.
        fixed_ms: The time beside them.
        blocks: That may go as a whole.
        whole: Units of the groups that have no choice.
    """

    choices: Sequence[Choice]
    terms: Sequence[Term]
    fixed_ms: float = 0.0
    blocks: Sequence[Block] = ()
    whole: Mapping[str, int] = field(default_factory=dict)


def allocate(problem: Problem, target_ms: float, kept: Mapping[str, str] | None = None) -> Allocation:
    """Looks for the least damage whose predicted time is within `target_ms`; the same question has the same answer.

    Args:
        problem: What may be cut.
        target_ms: The most that it may take.
        kept: Layers that may not be cut, with the reason; told where they are in the way.

    Raises:
        ModelError: No allocation is that fast; it says which time can be reached, and what is in the way.
    """
    knapsack = _knapsack(problem)
    fastest = _fastest(knapsack)
    if knapsack.ms(fastest) > target_ms:
        raise ModelError(_unreachable(problem, knapsack, fastest, target_ms, kept or {}))
    whole = knapsack.whole
    if knapsack.ms(whole) <= target_ms:
        return _answer(problem, knapsack, whole)
    found = {fastest, *_greedy(knapsack, target_ms), *_priced(knapsack, target_ms)}
    ranked = sorted(found, key=lambda state: (knapsack.damage(state), knapsack.ms(state), state))
    improved = [improve(knapsack, state, target_ms) for state in ranked[:_TAKEN_FURTHER]]
    best = min(improved, key=lambda state: (knapsack.damage(state), knapsack.ms(state), state))
    return _answer(problem, knapsack, best)


def _knapsack(problem: Problem) -> Knapsack:
    groups = {choice.group: index for index, choice in enumerate(problem.choices)}
    assert len(groups) == len(problem.choices), "each group has one choice"
    return Knapsack(
        options=[choice.units for choice in problem.choices],
        damages=[choice.damage for choice in problem.choices],
        blocks=[block.layers for block in problem.blocks],
        block_damages=[block.damage for block in problem.blocks],
        groups=groups,
        terms=problem.terms,
        fixed_ms=problem.fixed_ms,
        whole_units=problem.whole,
    )


def _answer(problem: Problem, knapsack: Knapsack, state: State) -> Allocation:
    removed = [number for number in range(len(problem.blocks)) if knapsack.is_removed(state, number)]
    # Of what vanishes with its block nothing is kept or cut; a redundant block costs nothing to keep.
    keep = {
        choice.group: choice.units[state[index] if knapsack.is_present(state, index) else -1]
        for index, choice in enumerate(problem.choices)
    }
    return Allocation(
        keep, tuple(problem.blocks[number].name for number in removed), knapsack.ms(state), knapsack.damage(state)
    )


def _fastest(knapsack: Knapsack) -> State:
    """The least time, by descending from both ends: all that can go gone, and all there."""
    ends = (tuple(0 for _ in knapsack.whole), knapsack.whole)
    return min((_descend(knapsack, end, None) for end in ends), key=lambda state: (knapsack.ms(state), state))


def _greedy(knapsack: Knapsack, target_ms: float) -> Iterable[State]:
    """From the whole network, ever the cut with the least damage for the time saved, to any lower level.

    On the way, every single cut that would be enough is an end of its own.
    """
    for capped in (False, True):
        state = knapsack.whole
        while (over := knapsack.ms(state) - target_ms) > 0:
            moves = []
            for index in range(len(state)):
                for level in range(state[index]):
                    saved = -knapsack.change_ms(state, index, level)
                    if saved <= 0:
                        continue
                    damage = knapsack.change_damage(state, index, level)
                    if saved >= over:
                        yield knapsack.moved(state, index, level)
                    # What is saved beyond the target is worth nothing, or may let others be repaired.
                    moves.append((damage / (min(saved, over) if capped else saved), -saved, index, level))
            if not moves:
                break
            _, _, index, level = min(moves)
            state = knapsack.moved(state, index, level)
        else:
            yield state


def _priced(knapsack: Knapsack, target_ms: float) -> Iterable[State]:
    """For prices on a millisecond, found by bisection, what is best group by group until nothing changes."""
    whole = knapsack.whole
    low, high = 0.0, 1.0
    for _ in range(60):
        if knapsack.ms(_descend(knapsack, whole, high)) <= target_ms:
            break
        low, high = high, high * 4
    for _ in range(_PRICES):
        price = (low + high) / 2
        fits = False
        for start in (whole, tuple(0 for _ in whole)):
            state = _descend(knapsack, start, price)
            if knapsack.ms(state) <= target_ms:
                fits = True
                yield state
        low, high = (low, price) if fits else (price, high)


def _descend(knapsack: Knapsack, state: State, price: float | None) -> State:
    """The best level of each group in turn, the others held, for damage + price * time; None: for time alone."""
    while True:
        before = state
        for index in range(len(state)):
            gains = []
            for level in range(len(knapsack.levels[index])):
                ms = knapsack.change_ms(state, index, level)
                gain = ms if price is None else knapsack.change_damage(state, index, level) + price * ms
                gains.append((gain, -level))
            gain, level = min(gains)
            if gain < -1e-12:
                state = knapsack.moved(state, index, -level)
        if state == before:
            return state


def _unreachable(
    problem: Problem, knapsack: Knapsack, fastest: State, target_ms: float, kept: Mapping[str, str]
) -> str:
    whole, least = knapsack.ms(knapsack.whole), knapsack.ms(fastest)
    parts = sorted(((ms, layer) for layer, ms in knapsack.parts(fastest).items()), reverse=True)
    named = [f"`{layer}` {ms:.3g} ms" + (f" (kept: {kept[layer]})" if layer in kept else "") for ms, layer in parts[:3]]
    if problem.fixed_ms > 0:
        named.append(f"the call itself {problem.fixed_ms:.3g} ms")
    return (
        f"no width of its {len(problem.choices)} groups makes the network run in {target_ms:.3g} ms: the least is "
        f"{least:.3g} ms of {whole:.3g} ms ({least / whole:.2f} of its time); what is left: {', '.join(named)}; ask "
        "for more time, allow narrower layers, or begin with a smaller network"
    )
