"""A choice of levels, its damage and its time, with changes of one group computed from the parts that it touches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from compresslab.pruning.costs import Term

State: TypeAlias = tuple[int, ...]
"""The level of each group, then of each block: 0 removed, 1 there."""


class Knapsack:
    """The arithmetic of an allocation; what the arguments mean is in `allocate`."""

    def __init__(
        self,
        *,
        options: Sequence[tuple[int, ...]],
        damages: Sequence[tuple[float, ...]],
        blocks: Sequence[frozenset[str]],
        block_damages: Sequence[float],
        groups: Mapping[str, int],
        terms: Sequence[Term],
        fixed_ms: float,
        whole_units: Mapping[str, int],
    ) -> None:
        self.levels: Sequence[Sequence[int]] = [*options, *((0, 1) for _ in blocks)]
        self.whole: State = tuple(len(levels) - 1 for levels in self.levels)
        self._damages = [*damages, *((damage, 0.0) for damage in block_damages)]
        self._groups = len(options)
        self._terms = terms
        self._fixed = fixed_ms
        self._known: list[dict[State, float]] = [{} for _ in terms]
        # Of each term: the groups that can change, and where they stand among its arguments.
        self._places = [
            tuple((place, groups[name]) for place, name in enumerate(term.groups) if name in groups) for term in terms
        ]
        self._template = [tuple(whole_units.get(name, 0) for name in term.groups) for term in terms]
        for term in terms:
            missing = [name for name in term.groups if name not in groups and name not in whole_units]
            assert not missing, f"{term.layer}: neither choice nor whole units for {missing}"
        self._removers = [
            tuple(self._groups + number for number, layers in enumerate(blocks) if term.layer in layers)
            for term in terms
        ]
        self._touching: list[list[int]] = [[] for _ in self.levels]
        for number in range(len(terms)):
            for index in {*(index for _, index in self._places[number]), *self._removers[number]}:
                self._touching[index].append(number)
        # A group whose layers a block can take away is not damaged once they are gone.
        self._inside: list[list[int]] = [[] for _ in self.levels]
        for group in range(self._groups):
            for remover in sorted({one for number in self._touching[group] for one in self._removers[number]}):
                self._inside[remover].append(group)

    def ms(self, state: State) -> float:
        """The time."""
        return self._fixed + sum(self._term(number, state) for number in range(len(self._terms)))

    def damage(self, state: State) -> float:
        """What is lost."""
        return sum(self._damage(index, state) for index in range(len(state)))

    def change_ms(self, state: State, index: int, level: int) -> float:
        """How the time changes when one goes to another level."""
        after = self.moved(state, index, level)
        return sum(self._term(number, after) - self._term(number, state) for number in self._touching[index])

    def change_damage(self, state: State, index: int, level: int) -> float:
        """How the damage changes when one goes to another level."""
        after = self.moved(state, index, level)
        return sum(self._damage(one, after) - self._damage(one, state) for one in (index, *self._inside[index]))

    def moved(self, state: State, index: int, level: int) -> State:
        """The state with one on another level."""
        return (*state[:index], level, *state[index + 1 :])

    def is_present(self, state: State, group: int) -> bool:
        """Whether any layer that the group touches is there."""
        touching = self._touching[group]
        return not touching or any(not self._is_gone(number, state) for number in touching)

    def is_removed(self, state: State, block: int) -> bool:
        """Whether the block is gone."""
        return state[self._groups + block] == 0

    def parts(self, state: State) -> Mapping[str, float]:
        """The time of each layer."""
        found = dict[str, float]()
        for number, term in enumerate(self._terms):
            found[term.layer] = found.get(term.layer, 0.0) + self._term(number, state)
        return found

    def _damage(self, index: int, state: State) -> float:
        damage = self._damages[index][state[index]]
        if damage == 0 or index >= self._groups or self.is_present(state, index):
            return damage
        return 0.0

    def _is_gone(self, number: int, state: State) -> bool:
        return any(state[index] == 0 for index in self._removers[number])

    def _term(self, number: int, state: State) -> float:
        if self._removers[number] and self._is_gone(number, state):
            return 0.0
        places = self._places[number]
        key = tuple(state[index] for _, index in places)
        known = self._known[number]
        if key not in known:
            units = list(self._template[number])
            for place, index in places:
                units[place] = self.levels[index][state[index]]
            known[key] = self._terms[number].ms(tuple(units))
        return known[key]
