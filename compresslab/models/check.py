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


def require_fit(model: TorchModel, inputs: npt.NDArray[np.float32], outputs: int) -> None:
    """Runs the network, in eval mode, on inputs [b, ...] of the task, which asks for so many outputs.

    Raises:
        ModelError: It fails on them, or gives something else than finite numbers [b, outputs].
    """
    name = type(model.module).__name__
    was_training = model.module.training
    model.module.eval()
    try:
        with torch.inference_mode():
            answers = model.module(torch.from_numpy(inputs))
    except (RuntimeError, TypeError, ValueError, AttributeError, LookupError, NotImplementedError) as error:
        raise ModelError(f"{name} fails on inputs of shape {list(inputs.shape)}: {error}") from error
    finally:
        model.module.train(was_training)
    expected = (len(inputs), outputs)
    if not isinstance(answers, Tensor):
        raise ModelError(f"{name} returns a {type(answers).__name__}; it must return one tensor {list(expected)}")
    if tuple(answers.shape) != expected:
        asked = "asks for one number a sample" if outputs == 1 else f"has {outputs} labels"
        raise ModelError(
            f"{name} returns shape {list(answers.shape)} for {len(inputs)} inputs, but the task {asked} and needs "
            f"{list(expected)}{'; add `.unsqueeze(1)`' if outputs == 1 and answers.ndim == 1 else ''}"
        )
    if not torch.isfinite(answers).all():
        raise ModelError(f"{name} returns NaN or infinity on the task's own inputs; its weights are damaged")
