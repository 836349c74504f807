"""The layers of a transformer, whoever wrote it, and a student with some of them."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import nn

from compresslab.errors import ModelError
from compresslab.models.blocks import remove_blocks, without_blocks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from compresslab.candidate import TorchModel

# The two matrices of an MLP in transformers' BERT, RoBERTa, MPNet and ViT; in DistilBERT; in timm's ViT and CLIP.
_MLPS = (("intermediate.dense", "output.dense"), ("ffn.lin1", "ffn.lin2"), ("mlp.fc1", "mlp.fc2"))


@dataclass(frozen=True)
class Mlp:
    """The MLP of one layer: the names of the matrix that widens and of the one that narrows again."""

    widens: str
    narrows: str


def transformer_layers(module: nn.Module) -> tuple[str, ...]:
    """The names of a transformer's layers, in order.

    They are the children of the one nn.ModuleList or nn.Sequential all of which have an MLP that is known.

    Raises:
        ModelError: There is no such list, or there are several, as in a network of two towers.
    """
    found = [
        tuple(f"{name}.{child}" if name else child for child, _ in container.named_children())
        for name, container in module.named_modules()
        if isinstance(container, nn.ModuleList | nn.Sequential) and len(container)
        and all(_mlp_of(block) is not None for block in container)
    ]  # fmt: skip
    if len(found) != 1:
        kinds = "BERT, DistilBERT, RoBERTa, MPNet and ViT of transformers', and timm's ViT"
        raise ModelError(
            f"{type(module).__name__} has {'no' if not found else len(found)} lists of transformer layers where there "
            f"must be one; a student can be made of networks such as {kinds}"
        )
    return found[0]


def mlps(module: nn.Module) -> tuple[Mlp, ...]:
    """The MLP of each layer, in order.

    Raises:
        ModelError: As `transformer_layers`.
    """
    made = []
    for name in transformer_layers(module):
        inside = _mlp_of(module.get_submodule(name))
        assert inside is not None, "a layer has one"
        made.append(Mlp(*(f"{name}.{part}" for part in inside)))
    return tuple(made)


def keep_layers(model: TorchModel, layers: Sequence[int]) -> TorchModel:
    """The network with these layers alone; the others are removed, the weights of these copied.

    Raises:
        ModelError: There is no such layer, or no list of layers.
    """
    names = transformer_layers(model.module)
    if layers[-1] >= len(names):
        raise ModelError(
            f"`layers` names layer {layers[-1]}, but the teacher has {len(names)}, counted from 0 to {len(names) - 1}"
        )
    gone = [name for index, name in enumerate(names) if index not in layers]
    module = copy.deepcopy(model.module)
    if not gone:
        return replace(model, module=module)
    assert model.builder is not None, "a teacher can be built again"
    remove_blocks(module, gone)
    return replace(model, module=module, builder=without_blocks(model.builder, gone))


def _mlp_of(block: nn.Module) -> tuple[str, str] | None:
    for pair in _MLPS:
        try:
            widens, narrows = (block.get_submodule(name) for name in pair)
        except AttributeError:
            continue
        if (
            isinstance(widens, nn.Linear) and isinstance(narrows, nn.Linear)
            and (widens.in_features, widens.out_features) == (narrows.out_features, narrows.in_features)
        ):  # fmt: skip
            return pair
    return None
