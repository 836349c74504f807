"""What pruning to a time needs of a machine: the time of single layers, and of whole networks side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from compresslab.measure.measurement import Estimate

if TYPE_CHECKING:
    from compresslab.candidate import TorchModel
    from compresslab.pruning.costs import Beside
    from compresslab.pruning.geometry import Sized
    from compresslab.pruning.one_layer import Precision


@dataclass(frozen=True)
class Timing:
    """A network's time as it was measured: in milliseconds, and as a share of the first that was measured with it."""

    ms: float
    share: Estimate


class Table(Protocol):
    """The time of single layers."""

    def ms(self, layers: Iterable[Sized]) -> Mapping[Sized, float]:
        """Milliseconds of each of these."""

    @property
    def digest(self) -> str:
        """Identifies the times that were looked up."""


class Clock(Protocol):
    """One machine, at the deployment point."""

    def table(self, precision: Precision) -> Table:
        """The times of layers in this precision."""

    def beside(self, model: TorchModel, precision: Precision) -> Beside:
        """What the network, which is of this precision, takes beside its layers."""

    def measure(self, models: Sequence[TorchModel]) -> tuple[Timing, ...]:
        """Networks, exported and measured interleaved."""
