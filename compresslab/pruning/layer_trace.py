"""The layers that one forward runs, with what decides how long each takes."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from compresslab.errors import ModelError
from compresslab.pruning.geometry import DEPTHWISE, Geometry, Layer, Sized
from compresslab.pruning.groups import LAYERS
from compresslab.pruning.watching import after, names_of


@torch.no_grad()
def layers_of(module: nn.Module, example: Tensor) -> tuple[Layer, ...]:
    """The layers in the order in which they run; one that runs twice is there twice.

    Args:
        module: In any mode, left as it is.
        example: A batch of inputs.

    Raises:
        ModelError: No layer ran as a module.
    """
    found: list[Layer] = []

    def note(name: str, layer: nn.Module, given: tuple[Tensor, ...], _: object, result: Tensor) -> None:
        found.append(_layer(name, layer, given[0], result, len(example)))

    was_training = module.training
    try:
        with after(module, names_of(module, LAYERS), note):
            module.eval()(example)
    finally:
        module.train(was_training)
    if not found:
        raise ModelError(
            f"{type(module).__name__} runs no convolution or linear layer as a module, so nothing is known of its time"
        )
    return tuple(found)


def _layer(name: str, layer: nn.Module, given: Tensor, result: Tensor, batch: int) -> Layer:
    if isinstance(layer, nn.Linear):
        tokens = math.prod(given.shape[:-1]) // batch
        geometry = Geometry("linear", (tokens,) if given.ndim > 2 else (), copies=1 if given.ndim > 2 else tokens)
        return Layer(name, Sized(geometry, layer.in_features, layer.out_features), tokens)
    assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d)
    depthwise = layer.groups == layer.in_channels == layer.out_channels > 1
    copies = len(given) // batch
    geometry = Geometry(
        "transposed" if isinstance(layer, nn.ConvTranspose2d) else "conv",
        tuple(given.shape[2:]),
        tuple(layer.kernel_size),
        tuple(layer.stride),
        _padding(layer),
        tuple(layer.dilation),
        DEPTHWISE if depthwise else layer.groups,
        copies,
    )
    return Layer(name, Sized(geometry, layer.in_channels, layer.out_channels), math.prod(result.shape[2:]) * copies)


def _padding(layer: nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d) -> tuple[int, ...]:
    """On each side; what `same` puts on one side alone makes no difference to the time worth a number of its own."""
    if layer.padding == "valid":
        return (0,) * len(layer.kernel_size)
    if layer.padding == "same":
        return tuple(d * (k - 1) // 2 for d, k in zip(layer.dilation, layer.kernel_size, strict=True))
    assert isinstance(layer.padding, tuple)
    return tuple(layer.padding)
