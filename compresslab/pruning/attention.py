"""Finds attentions whose heads can be cut: by the layers that they have, whoever wrote them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Mapping

# What holds queries, keys and values in timm and in Hugging Face's BERT, ViT, DistilBERT, CLIP and their kin.
_FUSED = ("qkv",)
_APART = (("query", "key", "value"), ("q_lin", "k_lin", "v_lin"), ("q_proj", "k_proj", "v_proj"))
_HEADS = ("num_attention_heads", "num_heads", "n_heads")
_OUTWARD = ("proj", "out_proj", "out_lin")
# Attributes that forwards read, and how each follows the number of heads and the size of one.
_SIZES = ("all_head_size", "attn_dim", "inner_dim", "dim")


@dataclass(frozen=True)
class Attention:
    """An attention with heads of one size.

    Args:
        name: Of the module that has the number of heads.
        heads: How many.
        inward: For each layer that makes queries, keys or values: its outputs of each head, int64 [heads, k].
        outward: The layer that reads the heads.
        outward_index: Its inputs of each head, int64 [heads, size].
    """

    name: str
    heads: int
    inward: Mapping[str, Tensor]
    outward: str
    outward_index: Tensor


def find_attention(module: nn.Module) -> tuple[Attention, ...]:
    """The attentions of a network whose heads are known to be apart."""
    found = [_attention(module, name, part) for name, part in module.named_modules()]
    return tuple(one for one in found if one is not None)


def set_heads(attention: nn.Module, heads: int) -> None:
    """Tells the module how many heads it has left; what it knows of their total size follows."""
    before = _heads_of(attention)
    assert before is not None
    for name in _SIZES:
        if isinstance(getattr(attention, name, None), int):
            setattr(attention, name, getattr(attention, name) // before[1] * heads)
    for name in _HEADS:
        if isinstance(getattr(attention, name, None), int):
            setattr(attention, name, heads)


def _attention(module: nn.Module, name: str, part: nn.Module) -> Attention | None:
    heads = _heads_of(part)
    inward = _inward(part)
    outward = _outward(module, name, part)
    if heads is None or not inward or outward is None:
        return None
    parts = 3 if len(inward) == 1 else 1
    widths = {getattr(part, layer).out_features // parts for layer in inward}
    layer = module.get_submodule(outward)
    assert isinstance(layer, nn.Linear)
    if len(widths) != 1 or layer.in_features not in widths or layer.in_features % heads[1]:
        return None  # fewer keys than queries, or heads of several sizes
    width = layer.in_features
    each = torch.arange(width).reshape(heads[1], -1)
    index = torch.cat([each + i * width for i in range(parts)], 1)
    return Attention(name, heads[1], {f"{name}.{one}": index for one in inward}, outward, each)


def _heads_of(part: nn.Module) -> tuple[str, int] | None:
    for name in _HEADS:
        if isinstance(getattr(part, name, None), int):
            return name, getattr(part, name)
    return None


def _inward(part: nn.Module) -> tuple[str, ...]:
    for names in (_FUSED, *_APART):
        if all(isinstance(getattr(part, name, None), nn.Linear) for name in names):
            return names
    return ()


def _outward(module: nn.Module, name: str, part: nn.Module) -> str | None:
    for layer in _OUTWARD:
        if isinstance(getattr(part, layer, None), nn.Linear):
            return f"{name}.{layer}"
    # Hugging Face's BERT and ViT: `attention.self` or `attention.attention` beside `attention.output.dense`.
    above = name.rpartition(".")[0]
    beside = f"{above}.output.dense" if above else "output.dense"
    try:
        return beside if isinstance(module.get_submodule(beside), nn.Linear) else None
    except AttributeError:
        return None
