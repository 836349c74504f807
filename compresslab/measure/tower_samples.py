"""Samples of several towers at once: images and texts that are compared in one space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from compresslab.measure.preprocessing import Samples


@dataclass(frozen=True)
class TowerSamples:
    """Samples by the name of the graph that reads them; their rows count on from one graph to the next.

    Args:
        parts: For each graph as its preprocessing takes them [n, ...]; a graph may have more of them than another.
    """

    parts: Mapping[str, Samples]

    def __len__(self) -> int:
        return sum(len(samples) for samples in self.parts.values())
