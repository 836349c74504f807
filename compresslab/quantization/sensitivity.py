"""Which operators suffer from integers, and which sets of them are worth keeping in float."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from compresslab.errors import ModelError, NothingToQuantize
from compresslab.quantization.calibration import calibrate, prepare
from compresslab.quantization.insertion import quantizable
from compresslab.quantization.tracing import trace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import nn

    from compresslab.quantization.settings import QuantizerSettings

# Of the harm that quantizing everything does: how much may be left with each set that is proposed.
_LEFT = (0.5, 0.2, 0.05)
# Larger sets are not thinned out: every try costs a pass, and what is gained is a few microseconds.
_MOST_THINNED = 12
_LEAST_MICROSECONDS = 0.1
_BATCH = 32


@dataclass(frozen=True)
class Sensitivity:
    """What an operator does to the outputs when it alone is quantized, and what float costs it.

    Args:
        name: As `keep_float` takes it.
        harm: Mean divergence from the float network's outputs; see `Harm`.
        microseconds: How much longer it takes in float than as integers, in a call; None where that is not known.
    """

    name: str
    harm: float
    microseconds: float | None

    @property
    def worth(self) -> float:
        """Harm avoided for a microsecond lost; float that is no slower costs next to nothing."""
        lost = 1.0 if self.microseconds is None else max(self.microseconds, _LEAST_MICROSECONDS)
        return self.harm / lost


class Harm:
    """How far a network strays from the float one when some operators stay in float and the rest is quantized.

    Of classes the Kullback-Leibler divergence of the answers' probabilities, in nats; of scores the squared error over
    the variance of the float network's, which is the inverse of a signal-to-noise ratio. Means over the samples, by
    fake quantization, each network calibrated on the very samples.

    Args:
        module: The float network.
        inputs: Calibration samples, float32 [n, ...]; no labels.
        settings: Of the quantizers; what they keep in float is kept.

    Raises:
        ModelError: The network cannot be traced, or has nothing to quantize.
    """

    def __init__(self, module: nn.Module, inputs: Tensor, settings: QuantizerSettings) -> None:
        self._inputs, self._settings = inputs, settings
        self._float = _outputs(copy.deepcopy(module).eval(), inputs)
        self._module = trace(module, inputs[:2])  # once: torch.export takes longer than a pass
        found = quantizable(self._module, inputs[:2], settings)
        self.roles = {name: role for name, role in found.items() if name not in settings.keep_float}
        self.operators = tuple(self.roles)

    def left(self, keep: Sequence[str]) -> float:
        """The harm with these in float too."""
        return self._of(self._keeping(keep))

    def quantizes(self, keep: Sequence[str]) -> bool:
        """Whether anything is quantized with these in float: what no integer reads, such as a last sum, is not."""
        settings = self._settings.model_copy(update=self._keeping(keep))
        try:
            prepare(self._module, self._inputs[:2], settings)
        except NothingToQuantize:
            return False
        return True

    def alone(self, name: str) -> float:
        """The harm of quantizing this one alone."""
        return self._of({"keep_float": (), "only": (name,)})

    def _keeping(self, keep: Sequence[str]) -> dict[str, tuple[str, ...]]:
        return {"keep_float": tuple(dict.fromkeys([*self._settings.keep_float, *keep]))}

    def _of(self, changes: Mapping[str, tuple[str, ...]]) -> float:
        settings = self._settings.model_copy(update=changes)
        prepared = prepare(self._module, self._inputs[:2], settings)
        calibrate(prepared, torch.split(self._inputs, _BATCH))
        return _divergence(self._float, _outputs(prepared, self._inputs))


def sensitivities(harm: Harm, microseconds: Mapping[str, float]) -> tuple[Sensitivity, ...]:
    """All operators, those first that are most worth keeping in float.

    One is quantized at a time. The other way, one in float at a time, hides what two do: where both ruin the outputs,
    sparing one changes nothing.

    Args:
        harm: Of the network.
        microseconds: What each takes more in float, by name, where that is known.
    """
    found = [Sensitivity(name, harm.alone(name), microseconds.get(name)) for name in harm.operators]
    return tuple(sorted(found, key=lambda one: (-one.worth, harm.operators.index(one.name))))


def proposals(
    harm: Harm, ranked: Sequence[Sensitivity], note: Callable[[str], None] | None = None
) -> tuple[tuple[str, ...], ...]:
    """Sets of operators to keep in float, each larger than the one before; none is all of them.

    Each is the shortest beginning of the ranking with which at most a half, a fifth, a twentieth of the whole harm is
    left, less those that turn out not to be needed, the slowest first. A value that is ruined by its range takes all
    who read and write it: that is why sets are tried, and not added up.

    Args:
        harm: Of the network.
        ranked: What `sensitivities` gave.
        note: Told where no set that is small enough helps.
    """
    whole = harm.left(())
    names = [one.name for one in ranked]
    lost = {one.name: one.microseconds or 0.0 for one in ranked}
    known: dict[tuple[str, ...], float] = {}

    def left(keep: Sequence[str]) -> float:
        key = tuple(name for name in harm.operators if name in keep)
        if key not in known:
            known[key] = harm.left(key)
        return known[key]

    most = len(names) - 1
    while most >= 1 and not harm.quantizes(names[:most]):
        most -= 1
    found: list[tuple[str, ...]] = []
    for share in _LEFT:
        low, high = 1, most
        if high < 1 or left(names[:high]) > share * whole:
            if note is not None:
                note(f"no set of operators in float leaves less than {share:.0%} of the harm")
            break
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if left(names[:middle]) <= share * whole else (middle + 1, high)
        keep = names[:low]
        if len(keep) <= _MOST_THINNED:
            for name in sorted(keep, key=lambda one: -lost[one]):
                fewer = [other for other in keep if other != name]
                if fewer and left(fewer) <= share * whole:
                    keep = fewer
        chosen = tuple(name for name in harm.operators if name in keep)
        if chosen not in found:
            found.append(chosen)
    return tuple(found)


def _outputs(module: nn.Module, inputs: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([module(batch) for batch in torch.split(inputs, _BATCH)]).float()


def _divergence(exact: Tensor, rounded: Tensor) -> float:
    if exact.shape[1:] == (1,):
        value = float((exact - rounded).square().mean() / exact.var().clamp_min(1e-12))
    else:
        ours, theirs = rounded.log_softmax(1), exact.log_softmax(1)
        value = float(functional.kl_div(ours, theirs, reduction="batchmean", log_target=True))
    if not math.isfinite(value):
        raise ModelError("the quantized network gives NaN or infinity on the calibration samples; look at the ranges")
    return max(value, 0.0)
