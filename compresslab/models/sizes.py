"""What a module remembers of its shape beside its tensors: read from a network, and set again in one that is rebuilt.

A layer of torch has the sizes that its type has. Other modules, such as an attention, keep numbers that their forward
reads; those are known by their names, which is a closed list, so that a file can set nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Mapping

Size: TypeAlias = int | tuple[int, ...] | float

_CONVOLUTION = ("in_channels", "out_channels", "groups")
_LAYERS: Mapping[type[nn.Module], tuple[str, ...]] = {
    nn.Conv1d: _CONVOLUTION,
    nn.Conv2d: _CONVOLUTION,
    nn.Conv3d: _CONVOLUTION,
    nn.ConvTranspose1d: _CONVOLUTION,
    nn.ConvTranspose2d: _CONVOLUTION,
    nn.ConvTranspose3d: _CONVOLUTION,
    nn.Linear: ("in_features", "out_features"),
    nn.BatchNorm1d: ("num_features",),
    nn.BatchNorm2d: ("num_features",),
    nn.BatchNorm3d: ("num_features",),
    nn.InstanceNorm1d: ("num_features",),
    nn.InstanceNorm2d: ("num_features",),
    nn.InstanceNorm3d: ("num_features",),
    nn.GroupNorm: ("num_groups", "num_channels"),
    nn.LayerNorm: ("normalized_shape",),
    nn.RMSNorm: ("normalized_shape",),
    nn.Embedding: ("num_embeddings", "embedding_dim"),
    nn.PReLU: ("num_parameters",),
}

_WHOLE = frozenset({
    # heads
    "num_heads", "num_attention_heads", "n_heads", "n_head", "nhead", "heads", "num_kv_heads", "num_key_value_heads",
    "num_kv_groups", "num_key_value_groups", "kv_heads", "n_kv_heads",
    # the width of one head, and of all
    "head_dim", "attention_head_size", "dim_head", "head_size", "key_dim", "val_dim", "value_dim", "qk_dim", "kv_dim",
    "dim_qk", "dim_v", "attn_dim", "attention_dim", "val_attn_dim", "key_attn_dim", "all_head_size", "inner_dim",
    "kdim", "vdim",
    # the width of what flows
    "dim", "dim_out", "out_dim", "in_dim", "embed_dim", "embedding_dim", "embedding_size", "hidden_size", "hidden_dim",
    "model_dim", "d_model", "n_embd", "num_features", "head_hidden_size", "feature_dim", "in_features", "out_features",
    "num_channels", "channels", "in_channels", "in_chs", "out_channels", "out_chs", "mlp_dim", "ffn_dim",
    "intermediate_size", "width", "groups", "num_groups", "normalized_shape",
})  # fmt: skip
# Follow from the width of a head where they are computed, and stay what they were where only its width changes.
_REAL = frozenset({"scale", "scaling", "attn_scale", "softmax_scale"})
NAMES = _WHOLE | _REAL
"""All attributes that a description may set in modules that are no layers of torch."""


def layer_sizes(module: nn.Module) -> dict[str, Size] | None:
    """The sizes of a layer of torch, or of a class derived from one; None for any other module."""
    names = next((_LAYERS[base] for base in type(module).__mro__ if base in _LAYERS), None)
    return None if names is None else {name: _plain(getattr(module, name)) for name in names}


def attributes(module: nn.Module) -> dict[str, Size]:
    """The numbers that a module which is no layer keeps under one of `NAMES`."""
    if layer_sizes(module) is not None:
        return {}
    return {name: _plain(value) for name, value in sorted(vars(module).items()) if _is_size(name, value)}


def set_sizes(module: nn.Module, sizes: Mapping[str, Size]) -> str | None:
    """Sets what `layer_sizes` or `attributes` gave; the name of the first that the module does not have, or None."""
    there = layer_sizes(module)
    if there is None:
        there = attributes(module)
    for name, value in sizes.items():
        if name not in there or type(value) is not type(there[name]):
            return name
    for name, value in sizes.items():
        setattr(module, name, value)
    return None


def _is_size(name: str, value: Any) -> bool:
    if name in _REAL:
        return isinstance(value, float)
    if name not in _WHOLE or isinstance(value, bool):
        return False
    whole: tuple[Any, ...] = value if isinstance(value, tuple) else (value,)
    return bool(whole) and all(isinstance(one, int | np.integer) and one >= 0 for one in whole)


def _plain(value: Any) -> Size:
    if isinstance(value, float):
        return value
    # numpy's integers, which pruning is apt to leave behind, are not JSON.
    return tuple(int(one) for one in value) if isinstance(value, tuple | list) else int(value)
