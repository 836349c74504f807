"""Weights after a cut by least squares: each layer gives again what it gave before, of what it is given now."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from compresslab.pruning.watching import after, before, names_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from compresslab.pruning.groups import Group

_BATCH = 128
# Of one sample: more of its positions say little that is new.
_POSITIONS = 64


@torch.no_grad()
def reconstruct(
    smaller: nn.Module,
    whole: nn.Module,
    groups: Iterable[Group],
    keep: Mapping[str, Iterable[int]],
    inputs: Tensor,
    *,
    removed: Collection[str] = (),
    ridge: float = 1e-3,
    seed: int = 0,
) -> tuple[str, ...]:
    """Refits the layers of a cut network, in place, so that each answers as it did before the cut.

    In the order in which they run, from the first that answers otherwise: the change of a layer's weights is the least
    squares solution between what it is given in the cut network, with all layers before it refitted, and what the same
    layer gave in the whole network, of the outputs that stay. A BatchNorm right behind takes over the constant and the
    scale, so that it gives the same with the statistics of a batch and with its own. Both networks run once a layer,
    as far as that layer.

    Convolutions of two dimensions without groups and linear layers are refitted, if they run once; other layers stay as
    they were cut.

    Source: He et al., "Channel Pruning for Accelerating Very Deep Neural Networks", ICCV 2017 (arXiv 1707.06168), there
    for one channel at a time and without the cut of the outputs; a ridge on the change instead of on the weights.

    Args:
        smaller: The cut network. In eval mode afterwards.
        whole: The network before the cut, in eval mode; left as it is.
        groups: Found in `whole`.
        keep: For each group that was cut, by name, the units that stayed.
        inputs: Real inputs [n, ...], without labels; some hundreds.
        removed: Blocks of `whole` that are gone.
        ridge: Weight of the squared change of the weights, in mean squares of the inputs; more than 0, unless no input
            follows from the others.
        seed: Of the positions that are looked at, where a sample has many.

    Returns:
        The layers that were refitted, by their names in the cut network.
    """
    smaller.eval()
    gone = _gone(groups, keep)
    # Blocks behind one that is gone have moved up, in the order in which they were.
    blocks = tuple(f"{block}." for block in removed)
    there = [name for name, _ in whole.named_modules() if not f"{name}.".startswith(blocks)]
    names = dict(zip((name for name, _ in smaller.named_modules()), there, strict=True))
    refitted = []
    for place in _places(smaller, inputs[:2]):
        if not place.fits:
            continue
        layer = smaller.get_submodule(place.name)
        then = names[place.name]
        sums = _gathered(_Tap(smaller, place.name), _Tap(whole, then), gone.get(then, set()), inputs, seed)
        if sums is not None:
            _refit(layer, None if place.norm is None else smaller.get_submodule(place.norm), sums, ridge)
            refitted.append(place.name)
    return tuple(refitted)


@dataclass(frozen=True)
class _Place:
    """A layer of weights, whether it can be refitted, and the BatchNorm that reads what it gives."""

    name: str
    fits: bool
    norm: str | None


@dataclass
class _Sums:
    """Means over rows, in float64: of what a layer is given, of what it gives too little, and of their products."""

    rows: int
    inputs: Tensor
    missing: Tensor
    squares: Tensor
    products: Tensor

    @staticmethod
    def of(inputs: Tensor, missing: Tensor) -> _Sums:
        inputs, missing = inputs.double(), missing.double()
        return _Sums(len(inputs), inputs.sum(0), missing.sum(0), inputs.T @ inputs, inputs.T @ missing)

    def __add__(self, other: _Sums) -> _Sums:
        return _Sums(
            self.rows + other.rows, self.inputs + other.inputs, self.missing + other.missing,
            self.squares + other.squares, self.products + other.products,
        )  # fmt: skip


@dataclass(frozen=True)
class _Tap:
    """Where a network is looked at."""

    network: nn.Module
    name: str

    @property
    def layer(self) -> nn.Module:
        return self.network.get_submodule(self.name)

    def of(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """What the layer is given and gives."""

        def stop(_name: str, _layer: nn.Module, given: tuple[Tensor, ...], _named: object, result: Tensor) -> None:
            raise _Reached(given[0], result)

        with after(self.network, [self.name], stop):
            try:
                self.network(inputs)
            except _Reached as reached:
                return reached.given, reached.result
        raise AssertionError(f"`{self.name}` ran with an example")


class _Reached(Exception):
    """Ends a forward at the layer that is looked at: what follows is not needed."""

    def __init__(self, given: Tensor, result: Tensor) -> None:
        super().__init__()
        self.given, self.result = given, result


def _gone(groups: Iterable[Group], keep: Mapping[str, Iterable[int]]) -> dict[str, set[int]]:
    """For each layer whose outputs were cut, those that are gone; several groups may have cut one layer."""
    found = defaultdict[str, set[int]](set)
    for group in groups:
        units = sorted(set(range(group.units)) - set(keep.get(group.name, range(group.units))))
        for member in group.members:
            if member.side == "out" and units:
                found[member.layer].update(member.index[units].flatten().tolist())
    return found


def _places(network: nn.Module, example: Tensor) -> list[_Place]:
    """The layers of weights in the order in which they run."""
    runs: Counter[str] = Counter()
    results: list[tuple[Tensor, str]] = []
    norms: dict[str, str] = {}

    def ran(name: str, _layer: nn.Module, _given: object, _named: object, result: Tensor) -> None:
        runs[name] += 1
        results.append((result, name))

    def read(layer: nn.Module, given: tuple[Tensor, ...], name: str) -> None:
        if isinstance(layer, _BatchNorm) and layer.affine and layer.track_running_stats:
            norms.update({giver: name for result, giver in results if result is given[0]})

    layers = names_of(network, (nn.Conv2d, nn.Linear))
    with after(network, layers, ran), before(network, names_of(network, (_BatchNorm,)), read):
        network(example)
    return [
        _Place(name, count == 1 and _fits(network.get_submodule(name)), norms.get(name)) for name, count in runs.items()
    ]


def _fits(layer: nn.Module) -> bool:
    """Whether its outputs are the products of one matrix, so that there is one problem of least squares."""
    if isinstance(layer, nn.Conv2d):
        return layer.groups == 1 and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    return True


def _gathered(now: _Tap, then: _Tap, gone: set[int], inputs: Tensor, seed: int) -> _Sums | None:
    """The sums of a layer; None where it still gives what it gave."""
    layer = now.layer
    channels = 1 if isinstance(layer, nn.Conv2d) else -1
    total: _Sums | None = None
    draw = torch.Generator().manual_seed(seed)
    for batch in torch.split(inputs, _BATCH):
        given, result = now.of(batch)
        wanted = then.of(batch)[1]
        staying = [channel for channel in range(wanted.shape[channels]) if channel not in gone]
        wanted = wanted.index_select(channels, torch.tensor(staying))
        if total is None and torch.allclose(result, wanted, rtol=1e-4, atol=1e-5):
            return None
        sums = _Sums.of(*_rows(layer, given, wanted - result, draw))
        total = sums if total is None else total + sums
    return total


def _rows(layer: nn.Module, given: Tensor, missing: Tensor, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """What the weights are multiplied with [rows, inputs], and what is missing [rows, outputs], at some positions."""
    if isinstance(layer, nn.Conv2d):
        assert not isinstance(layer.padding, str), "only these fit"
        (tall, broad), (down, right) = layer.padding, layer.stride
        given = F.pad(given, (broad, broad, tall, tall))
        (height, width), (far, wide) = layer.kernel_size, layer.dilation
        # Views [n, c, y, x, kernel]: only what is drawn is ever copied.
        windows = given.unfold(2, far * (height - 1) + 1, down).unfold(3, wide * (width - 1) + 1, right)
        windows = windows[..., ::far, ::wide].permute(0, 2, 3, 1, 4, 5)
        missing = missing.permute(0, 2, 3, 1)
        chosen = _drawn(missing.shape[0], missing.shape[1] * missing.shape[2], draw)
        sample = torch.arange(len(missing))[:, None]
        y, x = chosen // missing.shape[2], chosen % missing.shape[2]
        return windows[sample, y, x].flatten(0, 1).flatten(1), missing[sample, y, x].flatten(0, 1)
    given, missing = (one.reshape(len(one), -1, one.shape[-1]) for one in (given, missing))
    sample = torch.arange(len(given))[:, None]
    chosen = _drawn(len(given), given.shape[1], draw)
    return given[sample, chosen].flatten(0, 1), missing[sample, chosen].flatten(0, 1)


def _drawn(samples: int, positions: int, draw: torch.Generator) -> Tensor:
    """For each sample, which positions are looked at."""
    if positions <= _POSITIONS:
        return torch.arange(positions).expand(samples, positions)
    return torch.rand(samples, positions, generator=draw).argsort(1)[:, :_POSITIONS]


def _refit(layer: nn.Module, norm: nn.Module | None, sums: _Sums, ridge: float) -> None:
    assert isinstance(layer, nn.Conv2d | nn.Linear), "only these fit"
    inputs, missing = sums.inputs / sums.rows, sums.missing / sums.rows
    squares, products = sums.squares / sums.rows, sums.products / sums.rows
    before_it = layer.weight.flatten(1).double() @ inputs
    if layer.bias is not None or norm is not None:  # something takes the constant, so that only what varies is fitted
        squares, products = squares - inputs.outer(inputs), products - inputs.outer(missing)
    size = squares.diagonal().mean()
    if size <= 0:
        return  # nothing varies that it is given
    damped = squares + ridge * size * torch.eye(len(squares), dtype=squares.dtype)
    change = torch.cholesky_solve(products, torch.linalg.cholesky(damped)).T
    weight = layer.weight.flatten(1).double() + change
    layer.weight.copy_(weight.reshape(layer.weight.shape))
    if norm is not None:
        assert isinstance(norm, _BatchNorm), "nothing else is remembered"
        wanted, mean = before_it + missing, weight @ inputs
        variance = ((weight @ squares) * weight).sum(1)
        shift = 0.0 if layer.bias is None else layer.bias.double()
        _renormalize(norm, wanted + shift, mean + shift, variance)
    elif layer.bias is not None:
        layer.bias.add_(missing - change @ inputs)


def _renormalize(norm: _BatchNorm, wanted: Tensor, mean: Tensor, variance: Tensor) -> None:
    """The statistics that its inputs have now, and the scale and shift with which it gives what it gave.

    Args:
        norm: With the statistics, scale and shift of the whole network.
        wanted: Means of what it was given in the whole network.
        mean: Means of what it is given now.
        variance: Variances of what it is given now.
    """
    assert norm.running_mean is not None, "only norms with statistics are remembered"
    assert norm.running_var is not None, "only norms with statistics are remembered"
    then = (norm.running_var.double() + norm.eps).sqrt()
    scale = norm.weight.double() / then
    norm.bias.add_(scale * (wanted - norm.running_mean.double()))
    norm.weight.copy_(scale * (variance + norm.eps).sqrt())
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
