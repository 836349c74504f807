"""Weights that the user brings for a network: a .safetensors file, or a state dict in a .pt file."""

from __future__ import annotations

from collections.abc import Mapping
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from compresslab.errors import ModelError
from compresslab.models.architecture import require_same_tensors

if TYPE_CHECKING:
    from pathlib import Path

_WRAPPERS = ("state_dict", "model_state_dict", "model")
_PREFIX = "module."  # what DataParallel puts before every name


def load_weights(module: nn.Module, path: Path) -> None:
    """Loads the file into the network, in place.

    A state dict may lie under `state_dict`, `model_state_dict` or `model`, and carry DataParallel's `module.` prefix.

    Raises:
        ModelError: The file is missing, damaged, not a state dict, not finite, or for another network.
    """
    if not path.is_file():
        raise ModelError(f"{path}: there is no such file")
    tensors = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    if tensors and all(name.startswith(_PREFIX) for name in tensors):
        tensors = {name.removeprefix(_PREFIX): tensor for name, tensor in tensors.items()}
    require_same_tensors(module, tensors, str(path))
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ModelError(f"{path}: `{name}` holds NaN or infinity; the training that wrote it diverged")
    module.load_state_dict(tensors, strict=True)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load(path.read_bytes())
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: is damaged or truncated: {error}") from error


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        found = torch.load(path, weights_only=True, map_location="cpu")
    except UnpicklingError as error:
        raise ModelError(
            f"{path}: holds more than tensors (such as a whole pickled network), and is not read, as that could run "
            "code; write the weights alone: torch.save(network.state_dict(), path)"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise ModelError(f"{path}: is damaged, or no file that torch.save wrote: {error}") from error
    return _state_dict(found, path)


def _state_dict(found: Any, path: Path) -> dict[str, Tensor]:
    if isinstance(found, Mapping):
        for wrapper in _WRAPPERS:
            if isinstance(found.get(wrapper), Mapping):
                return _state_dict(found[wrapper], path)
        if found and all(isinstance(value, Tensor) for value in found.values()):
            return {str(name): tensor for name, tensor in found.items()}
    keys = f" with {', '.join(map(repr, list(found)[:5]))}" if isinstance(found, Mapping) else ""
    raise ModelError(f"{path}: must hold a state dict, name -> tensor, but holds a {type(found).__name__}{keys}")
