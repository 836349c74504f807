"""From a torch network to an ONNX graph in memory: torch's exporter, made quiet, its network left alone."""

from __future__ import annotations

import copy
import logging
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.onnx import OnnxExporterError

from compresslab.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx_ir as ir

OPSET = 18
"""The oldest that the exporter writes, and what it thinks in; later ones are a conversion that buys nothing here."""

INPUT = "input"
IDS = "input_ids"
"""What the input of a network that reads ids of tokens is called; Optimum feeds it by this name."""

_SHORTEST = 8

# It says at every export that torchvision's operators cannot be registered, which nobody asked for.
_NOISY_LOGGER = "torch.onnx._internal.exporter._registration"


def to_onnx(module: nn.Module, example: torch.Tensor, output: str) -> ir.Model:
    """The network as an ONNX graph whose first dimension is named `batch`; of ids the second is `sequence`.

    Args:
        module: In eval mode, on the CPU; left unchanged.
        example: An input, float32 [n, ...] or ids of tokens, int64 [n, seq]. n must be at least 2, or the exporter
            would take the batch for a constant.
        output: Names the output.

    Raises:
        ModelError: torch's exporter cannot follow the network.
    """
    # Training leaves weights with the channels last, and views of what follows would be exported as strides of memory.
    plain = copy.deepcopy(module).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    name, dynamic = INPUT, {0: "batch"}
    if reads_ids(example):
        name, dynamic = IDS, {0: "batch", 1: "sequence"}
        # Two dimensions of one size, or of size one, would be taken for the same, or for a constant.
        example = example.repeat(1, -(-_SHORTEST // example.shape[1]))[:, : max(_SHORTEST, example.shape[1])]
    try:
        with _quiet():
            program = torch.onnx.export(
                plain,
                (example,),
                dynamo=True,
                external_data=False,
                opset_version=OPSET,
                input_names=[name],
                output_names=[output],
                dynamic_shapes=(dynamic,),
                verbose=False,
            )
    except OnnxExporterError as error:
        cause = str(error.__cause__ or error).splitlines()[0]
        raise ModelError(
            f"{type(module).__name__} cannot be exported to ONNX: {cause}; let `forward` take one tensor, give one "
            "tensor, and do the same whatever the batch size"
        ) from error
    assert program is not None
    _tell_apart(program.model.graph, output)
    return program.model


def _tell_apart(graph: ir.Graph, output: str) -> None:
    """The exporter names values by what makes them, `embedding` or `logits`, also where the output has that name."""
    for value in (*(value for node in graph for value in node.outputs), *graph.initializers.values()):
        if value.name == output and not value.is_graph_output():
            value.name = f"{output}_inside"


def reads_ids(example: torch.Tensor) -> bool:
    """Whether these are ids of tokens [n, seq]."""
    return example.dtype == torch.int64 and example.ndim == 2


@contextmanager
def _quiet() -> Iterator[None]:
    logger = logging.getLogger(_NOISY_LOGGER)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # torch.export calls its own deprecated spelling.
            warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\).*", category=FutureWarning)
            yield
    finally:
        logger.setLevel(before)
