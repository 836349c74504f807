"""Whether a network fits a task, tried on real inputs before anything is spent on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from compresslab.errors import ModelError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from compresslab.candidate import TorchModel


def require_fit(model: TorchModel, inputs: npt.NDArray[np.float32], classes: int) -> None:
    """Runs the network, in eval mode, on inputs [b, c, h, w] of the task.

    Raises:
        ModelError: It fails on them, or gives something else than finite logits [b, classes].
    """
    name = type(model.module).__name__
    was_training = model.module.training
    model.module.eval()
    try:
        with torch.inference_mode():
            outputs = model.module(torch.from_numpy(inputs))
    except (RuntimeError, TypeError, ValueError, AttributeError, LookupError, NotImplementedError) as error:
        raise ModelError(f"{name} fails on inputs of shape {list(inputs.shape)}: {error}") from error
    finally:
        model.module.train(was_training)
    expected = (len(inputs), classes)
    if not isinstance(outputs, Tensor):
        raise ModelError(f"{name} returns a {type(outputs).__name__}; it must return logits {list(expected)}")
    if tuple(outputs.shape) != expected:
        raise ModelError(
            f"{name} returns shape {list(outputs.shape)} for {len(inputs)} inputs, but the task has {classes} labels "
            f"and needs {list(expected)}"
        )
    if not torch.isfinite(outputs).all():
        raise ModelError(f"{name} returns NaN or infinity on the task's own inputs; its weights are damaged")
