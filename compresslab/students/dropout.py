"""Dropout that a student does not take over."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compresslab.candidate import TorchModel

_MARK = "drop"


def without_dropout(model: TorchModel) -> TorchModel:
    """The same weights, built from now on with every share of dropout in its description at zero.

    These are the numbers whose names have `drop` in them, as `hidden_dropout_prob` of transformers' configurations and
    `drop_path_rate` of timm's arguments. The module itself is not touched: it has to be built again.
    """
    assert model.builder is not None, "a teacher can be built again"
    return replace(model, builder=_at_zero(model.builder))


def _at_zero(plain: Any) -> Any:
    if isinstance(plain, dict):
        return {name: 0.0 if _is_share(name, value) else _at_zero(value) for name, value in plain.items()}
    return plain


def _is_share(name: str, value: Any) -> bool:
    return _MARK in name and isinstance(value, float)
