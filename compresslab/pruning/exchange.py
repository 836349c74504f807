"""Makes an allocation better by small changes that stay within the time: repairs, and exchanges of two groups."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from compresslab.pruning.knapsack import Knapsack, State

_LEAST = 1e-12


def improve(knapsack: Knapsack, state: State, target_ms: float) -> State:
    """The state after every repair and exchange that lessens the damage; each time the one that lessens it most."""
    while True:
        better = _best_repair(knapsack, state, target_ms) or _best_exchange(knapsack, state, target_ms)
        if better is None:
            return state
        state = better


def _best_repair(knapsack: Knapsack, state: State, target_ms: float) -> State | None:
    """One group on another level."""
    spare = target_ms - knapsack.ms(state)
    fitting = [
        (gain, index, level)
        for gain, index, level in _repairs(knapsack, state)
        if knapsack.change_ms(state, index, level) <= spare
    ]
    if not fitting:
        return None
    _, index, level = min(fitting)
    return knapsack.moved(state, index, level)


def _best_exchange(knapsack: Knapsack, state: State, target_ms: float) -> State | None:
    """One group less damaged, another more, and less in all."""
    best, found = -_LEAST, None
    for gain, index, level in sorted(_repairs(knapsack, state)):
        if gain >= best:
            break  # even for nothing in return, the rest gain less
        raised = knapsack.moved(state, index, level)
        over = knapsack.ms(raised) - target_ms
        for other in range(len(state)):
            if other == index:
                continue
            # From mild to severe: the first that pays is the cheapest of this group.
            for lower in reversed(range(state[other])):
                loss = knapsack.change_damage(raised, other, lower)
                if gain + loss >= best:
                    break
                if knapsack.change_ms(raised, other, lower) <= -over:
                    best, found = gain + loss, knapsack.moved(raised, other, lower)
                    break
    return found


def _repairs(knapsack: Knapsack, state: State) -> Iterator[tuple[float, int, int]]:
    """Every change of one group that lessens the damage."""
    for index in range(len(state)):
        for level in range(len(knapsack.levels[index])):
            gain = knapsack.change_damage(state, index, level)
            if gain < -_LEAST:
                yield gain, index, level
