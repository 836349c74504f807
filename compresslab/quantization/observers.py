"""How the range of an activation is found from the batches that pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:
    from compresslab.quantization.settings import QuantizerSettings

_BINS = 2048
_LEVELS = 255


class Observer(Protocol):
    """Sees batches, then answers a range."""

    @property
    def seen(self) -> bool:
        """Whether a batch has passed."""

    def update(self, x: Tensor) -> None:
        """One more batch: float32 of any shape, finite."""

    def range(self) -> tuple[float, float]:
        """The lowest and the highest value that need to be told apart."""


class MinMax:
    """The extremes of all batches: nothing is clipped, one outlier coarsens every step."""

    def __init__(self) -> None:
        self.seen = False
        self._low, self._high = float("inf"), float("-inf")

    def update(self, x: Tensor) -> None:
        """Widens the range to hold this batch."""
        low, high = torch.aminmax(x)
        self._low, self._high = min(self._low, float(low)), max(self._high, float(high))
        self.seen = True

    def range(self) -> tuple[float, float]:
        """The extremes."""
        return self._low, self._high


class MovingAverage:
    """The exponentially averaged extremes of each batch.

    Args:
        momentum: Weight of the newest batch.
    """

    def __init__(self, momentum: float) -> None:
        self.seen = False
        self._momentum = momentum
        self._low = self._high = 0.0

    def update(self, x: Tensor) -> None:
        """Moves the range towards this batch's extremes; the first batch sets it."""
        low, high = map(float, torch.aminmax(x))
        weight = self._momentum if self.seen else 1.0
        self._low += weight * (low - self._low)
        self._high += weight * (high - self._high)
        self.seen = True

    def range(self) -> tuple[float, float]:
        """The averaged extremes."""
        return self._low, self._high


class Histogram:
    """Counts in 2,048 equal bins that double in width, merging in pairs, when a value falls outside.

    Memory stays the same for any number of batches, and the order of the batches matters by at most one bin.
    """

    def __init__(self) -> None:
        self.seen = False
        self.low = self.width = 0.0
        self._extremes = MinMax()
        self.counts = torch.zeros(_BINS, dtype=torch.float64)

    def update(self, x: Tensor) -> None:
        """Counts every value of the batch."""
        low, high = map(float, torch.aminmax(x))
        self._extremes.update(x)
        if not self.seen:
            self.low = low
            self.width = max(high - low, 1e-12) * (1 + 1e-6) / _BINS
            self.seen = True
        while high > self.high:
            self.counts = torch.cat([self._pairs(), torch.zeros(_BINS // 2, dtype=torch.float64)])
            self.width *= 2
        while low < self.low:
            self.counts = torch.cat([torch.zeros(_BINS // 2, dtype=torch.float64), self._pairs()])
            self.low -= _BINS * self.width
            self.width *= 2
        self.counts += torch.histc(x.float(), _BINS, self.low, self.high).double()

    @property
    def high(self) -> float:
        """The upper edge of the last bin."""
        return self.low + _BINS * self.width

    @property
    def centres(self) -> Tensor:
        """float64 [bins]: the middle of each bin."""
        return self.low + self.width * (torch.arange(_BINS, dtype=torch.float64) + 0.5)

    def occupied(self) -> tuple[float, float]:
        """The lowest and the highest value counted."""
        return self._extremes.range()

    def _pairs(self) -> Tensor:
        return self.counts.reshape(-1, 2).sum(1)


class Percentile:
    """The range that leaves out the outermost values.

    Args:
        share: Per cent of the values that stay inside. What is cut comes half from each end, or all from the far end
            where the values have one sign only (after a ReLU).
    """

    def __init__(self, share: float) -> None:
        self._histogram = Histogram()
        self._cut = 1 - share / 100

    @property
    def seen(self) -> bool:
        """Whether a batch has passed."""
        return self._histogram.seen

    def update(self, x: Tensor) -> None:
        """Counts every value of the batch."""
        self._histogram.update(x)

    def range(self) -> tuple[float, float]:
        """The two quantiles."""
        histogram = self._histogram
        low, high = histogram.occupied()
        signed = low < 0 < high
        cut = self._cut / 2 if signed else self._cut
        below = histogram.counts.cumsum(0) / histogram.counts.sum()
        first, last = torch.searchsorted(below, torch.tensor([cut, 1 - cut], dtype=below.dtype)).tolist()
        return (
            low if low >= 0 else max(low, histogram.low + first * histogram.width),
            high if high <= 0 else min(high, histogram.low + (last + 1) * histogram.width),
        )


class LeastSquares:
    """The range with the least squared error between the values and their quantized selves.

    Source: Banner et al., "Post training 4-bit quantization of convolutional networks", NeurIPS 2019, for the
    criterion; the search over clipping shares, one end after the other, is plain.
    """

    _SHARES = torch.linspace(0.1, 1.0, 91, dtype=torch.float64)

    def __init__(self) -> None:
        self._histogram = Histogram()

    @property
    def seen(self) -> bool:
        """Whether a batch has passed."""
        return self._histogram.seen

    def update(self, x: Tensor) -> None:
        """Counts every value of the batch."""
        self._histogram.update(x)

    def range(self) -> tuple[float, float]:
        """The best clipped range; an end at zero stays there."""
        low, high = (torch.tensor(end, dtype=torch.float64) for end in self._histogram.occupied())
        low, high = low.clamp_max(0), high.clamp_min(0)
        lows, highs = low * self._SHARES, high * self._SHARES
        best = int(self._errors(lows, highs).argmin())
        left, right = lows[best], highs[best]
        for _ in range(2):
            right = highs[self._errors(left.expand_as(highs), highs).argmin()]
            left = lows[self._errors(lows, right.expand_as(lows)).argmin()]
        return float(left), float(right)

    def _errors(self, lows: Tensor, highs: Tensor) -> Tensor:
        """float64 [candidates]: the squared error of each range over the histogram."""
        scale = ((highs - lows) / _LEVELS).clamp_min(1e-12).unsqueeze(1)
        zero_point = (-lows.unsqueeze(1) / scale).round()
        centres = self._histogram.centres
        grid = ((centres / scale).round() + zero_point).clamp(0, _LEVELS)
        return ((((grid - zero_point) * scale) - centres).square() * self._histogram.counts).sum(1)


class Entropy:
    """The clipped range whose values, on the grid, are distributed most like the values themselves.

    The divergence is Kullback-Leibler's, between the histogram with what is outside added to its ends and the same
    histogram at 256 levels, each spread evenly over the bins that it stands for and that are not empty. Source:
    Migacz, "8-bit inference with TensorRT", GTC 2017; there the range is symmetric, here each end is sought. Zeros are
    left out: every grid holds them exactly, and the half of all values that a ReLU makes zero would outweigh the rest.
    """

    _SHARES = torch.linspace(0.2, 1.0, 81, dtype=torch.float64)

    def __init__(self) -> None:
        self._histogram = Histogram()

    @property
    def seen(self) -> bool:
        """Whether a batch has passed."""
        return self._histogram.seen

    def update(self, x: Tensor) -> None:
        """Counts every value of the batch but zeros."""
        values = x[x != 0]
        self._histogram.update(values if values.numel() else x)

    def range(self) -> tuple[float, float]:
        """The best clipped range; an end at zero stays there."""
        low, high = self._histogram.occupied()
        low, high = min(low, 0.0), max(high, 0.0)
        shares = self._SHARES.tolist()
        _, share = min((self._divergence(low * share, high * share), share) for share in shares)
        low, high = low * share, high * share
        if low < 0 < high:
            bottom, top = self._histogram.occupied()
            _, low = min((self._divergence(bottom * share, high), bottom * share) for share in shares)
            _, high = min((self._divergence(low, top * share), top * share) for share in shares)
        return low, high

    def _divergence(self, low: float, high: float) -> float:
        """Of the values from what a uint8 grid over this range makes of them."""
        counts, centres = self._histogram.counts, self._histogram.centres
        inside = (centres >= low) & (centres <= high)
        kept = counts[inside]
        if kept.sum() == 0 or high - low <= 0:
            return float("inf")
        levels = ((centres[inside] - low) / (high - low) * _LEVELS).round().long().clamp(0, _LEVELS)
        full = (kept > 0).double()
        mass = torch.zeros(_LEVELS + 1, dtype=torch.float64).index_add(0, levels, kept)
        bins = torch.zeros(_LEVELS + 1, dtype=torch.float64).index_add(0, levels, full)
        found = (mass / bins.clamp_min(1))[levels] * full
        expected = kept.clone()
        expected[0] += counts[centres < low].sum()
        expected[-1] += counts[centres > high].sum()
        expected, found = expected / expected.sum(), found / found.sum()
        some = expected > 0
        # An end that is empty but for what is clipped to it would be infinitely unlikely.
        return float((expected[some] * (expected[some] / found[some].clamp_min(1e-9)).log()).sum())


def observer(settings: QuantizerSettings) -> Observer:
    """A fresh observer of the kind that the settings name."""
    match settings.observer:
        case "minmax":
            return MinMax()
        case "moving_average":
            return MovingAverage(settings.momentum)
        case "percentile":
            return Percentile(settings.percentile)
        case "mse":
            return LeastSquares()
        case "entropy":
            return Entropy()
