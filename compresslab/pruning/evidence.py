"""What a judgement of importance may look at: the network, and what a few samples make of it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from compresslab.errors import ModelError
from compresslab.pruning.groups import LAYERS
from compresslab.pruning.slices import part
from compresslab.pruning.watching import before

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from compresslab.pruning.groups import Group

Reading = Literal["gradients", "squared_gradients", "contributions", "activations"]
READINGS: tuple[Reading, ...] = ("gradients", "squared_gradients", "contributions", "activations")


@dataclass(frozen=True)
class Evidence:
    """What may be looked at. What was not asked for when it was gathered is empty.

    Args:
        network: In eval mode; not to be changed.
        gradients: By parameter, the gradient of the mean loss.
        squared_gradients: By parameter, the mean of the squared gradients of single samples: the diagonal of the
            empirical Fisher information, which stands for the Hessian's.
        contributions: By group, [units]: how much the loss of a sample changes without the unit, to first order, as
            the mean of absolute values over samples. Of the units as the following layers read them.
        activations: By layer that reads a group, the mean of |input|, [in channels].
        seed: For judgements that draw lots.
    """

    network: nn.Module
    gradients: Mapping[str, Tensor] = field(default_factory=dict)
    squared_gradients: Mapping[str, Tensor] = field(default_factory=dict)
    contributions: Mapping[str, Tensor] = field(default_factory=dict)
    activations: Mapping[str, Tensor] = field(default_factory=dict)
    seed: int = 0


def gather(
    network: nn.Module,
    groups: Iterable[Group],
    batches: Iterable[tuple[Tensor, Tensor]],
    loss: Callable[[Tensor, Tensor], Tensor],
    reads: Collection[Reading],
    *,
    samples: int = 256,
    seed: int = 0,
) -> Evidence:
    """Runs labelled samples through the network, as far as `reads` asks for it. The network is left as it is.

    Args:
        network: In any mode; it is looked at in eval mode, so that a batch of one sample means the same.
        groups: Their readers are those whose activations are looked at.
        batches: Inputs and targets of the calibration split; gone through once, and not at all for no readings.
        loss: Of a batch's outputs and targets, a mean over its samples.
        reads: What is needed.
        samples: How many samples have their squared gradients taken, one backward pass each.
        seed: For judgements that draw lots.

    Raises:
        ModelError: There are no samples, or the loss is not finite.
    """
    if not reads:
        return Evidence(network, seed=seed)
    groups = tuple(groups)
    readers = _readers(network, groups)
    # Parameters of the evidence's own: a frozen one has a gradient as well, and the network's `grad` is not touched.
    parameters = {name: value.detach().requires_grad_() for name, value in network.named_parameters()}
    means = {reading: _Mean() for reading in READINGS}
    count = 0
    was_training = network.training
    network.eval()
    try:
        for inputs, targets in batches:
            if "gradients" in reads:
                found = _gradients(network, parameters, loss, inputs, targets)
                means["gradients"].add({name: value * len(inputs) for name, value in found.items()}, len(inputs))
            if "contributions" in reads:
                each = _contributions(network, readers, groups, loss, inputs, targets)
                means["contributions"].add({name: value.abs().sum(0) for name, value in each.items()}, len(inputs))
            if "activations" in reads:
                found = _activations(network, readers, inputs)
                means["activations"].add({name: value * len(inputs) for name, value in found.items()}, len(inputs))
            if "squared_gradients" in reads:
                for i in range(min(len(inputs), samples - count)):
                    found = _gradients(network, parameters, loss, inputs[i : i + 1], targets[i : i + 1])
                    means["squared_gradients"].add({name: value.square() for name, value in found.items()}, 1)
            count += len(inputs)
            if count >= samples and set(reads) == {"squared_gradients"}:
                break
    finally:
        network.train(was_training)
    if not count:
        raise ModelError("importance is judged on samples, but there are none; give the calibration split some")
    return Evidence(
        network,
        _all_names(network, means["gradients"].of()),
        _all_names(network, means["squared_gradients"].of()),
        means["contributions"].of(),
        means["activations"].of(),
        seed,
    )


class _Mean:
    """Sums by name, and of how many."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.count = 0

    def add(self, values: Mapping[str, Tensor], count: int) -> None:
        for name, value in values.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.count += count

    def of(self) -> dict[str, Tensor]:
        return {name: value / self.count for name, value in self.sums.items()}


def _gradients(
    network: nn.Module,
    parameters: Mapping[str, Tensor],
    loss: Callable[[Tensor, Tensor], Tensor],
    inputs: Tensor,
    targets: Tensor,
) -> dict[str, Tensor]:
    with torch.enable_grad():
        value = _finite(loss(functional_call(network, dict(parameters), (inputs,)), targets))
        found = torch.autograd.grad(value, tuple(parameters.values()), materialize_grads=True, allow_unused=True)
    return dict(zip(parameters, found, strict=True))


def _contributions(
    network: nn.Module,
    readers: Collection[str],
    groups: Iterable[Group],
    loss: Callable[[Tensor, Tensor], Tensor],
    inputs: Tensor,
    targets: Tensor,
) -> dict[str, Tensor]:
    """For each group [samples, units]: the gradient of each sample's loss by a gate of 1 in front of its readers."""
    gates: dict[str, list[Tensor]] = {layer: [] for layer in readers}

    def gate(layer: nn.Module, given: tuple[Tensor, ...], name: str) -> tuple[Tensor, ...]:
        value = given[0]
        channel = _channel_dimension(layer)
        shape = [value.shape[i] if i in (0, channel % value.ndim) else 1 for i in range(value.ndim)]
        gates[name].append(torch.ones(shape, dtype=value.dtype, device=value.device, requires_grad=True))
        return (value * gates[name][-1], *given[1:])

    with torch.enable_grad(), before(network, readers, gate):
        value = _finite(loss(network(inputs), targets))
    every = [one for ones in gates.values() for one in ones]
    found = iter(torch.autograd.grad(value, every, materialize_grads=True, allow_unused=True))
    # A loss is a mean over samples, and each has its own gate.
    by_layer = {
        name: torch.stack([_by_sample(next(found), name, inputs) for _ in ones]).sum(0)
        for name, ones in gates.items()
        if ones
    }
    contributions = {}
    for group in groups:
        parts = [
            by_layer[member.layer][:, member.index].sum(2)
            for member in group.members
            if member.side == "in" and member.layer in by_layer
        ]
        contributions[group.name] = torch.stack(parts).sum(0) * len(inputs)
    return contributions


def _by_sample(gradient: Tensor, name: str, inputs: Tensor) -> Tensor:
    """[samples, channels] of a gate's gradient."""
    if len(gradient) % len(inputs):
        raise ModelError(
            f"`{name}` is given {len(gradient)} rows for {len(inputs)} samples, so that samples cannot be told apart; "
            "use `hessian` instead"
        )
    return gradient.reshape(len(inputs), len(gradient) // len(inputs), -1).sum(1)


@torch.no_grad()
def _activations(network: nn.Module, readers: Collection[str], inputs: Tensor) -> dict[str, Tensor]:
    """For each reader [channels]: the mean of |input|."""
    means = {layer: _Mean() for layer in readers}

    def look(layer: nn.Module, given: tuple[Tensor, ...], name: str) -> None:
        channels = given[0].movedim(_channel_dimension(layer), 0).flatten(1).abs()
        means[name].add({name: channels.sum(1)}, channels.shape[1])

    with before(network, readers, look):
        network(inputs)
    return {name: value for mean in means.values() for name, value in mean.of().items()}


def _channel_dimension(layer: nn.Module) -> int:
    return -1 if isinstance(layer, nn.Linear) else 1


def _finite(loss: Tensor) -> Tensor:
    if not loss.isfinite().all():
        raise ModelError(f"the loss on calibration samples is {loss.item()}: importance cannot be judged by it")
    return loss


def _readers(network: nn.Module, groups: Iterable[Group]) -> list[str]:
    members = [member for group in groups for member in group.members if member.side == "in"]
    return sorted({member.layer for member in members if isinstance(part(network, member.layer), LAYERS)})


def _all_names(network: nn.Module, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same under all the names that a parameter has, where it is used in several places."""
    by_tensor: dict[int, str] = defaultdict(str, {id(value): name for name, value in network.named_parameters()})
    every = ((name, by_tensor[id(value)]) for name, value in network.named_parameters(remove_duplicate=False))
    return {name: values[first] for name, first in every if first in values}
