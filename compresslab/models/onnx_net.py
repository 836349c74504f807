"""A network that is given as an ONNX file: read, held against the task, and asked by ONNX Runtime."""

from __future__ import annotations

from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from compresslab.candidate import OnnxModel, TorchModel
from compresslab.errors import ArtifactError, ModelError
from compresslab.export.integer_operators import faithful
from compresslab.export.reading import read_model
from compresslab.measure.machine import usable_cores
from compresslab.measure.onnx_file import described
from compresslab.measure.runtime import RUNTIME_ERRORS
from compresslab.measure.session import SessionOptions, open_session
from compresslab.models import architecture

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

    from compresslab.measure.artifact import TensorInfo

_REMEDY = "export it with one input [batch, ...] and one output [batch, outputs]"


def digest(model: TorchModel | OnnxModel) -> str:
    """Identifies a network: by architecture and weights, or by all that an ONNX file and its weight files hold."""
    if isinstance(model, TorchModel):
        return architecture.digest(model)
    return sha256(read_model(model.path).SerializeToString(deterministic=True)).hexdigest()


def open_onnx(path: Path) -> OnnxModel:
    """The graph in the file, which takes one input and gives one output; their names do not matter.

    Raises:
        ArtifactError: The file is missing, is no ONNX, or has operators that this ONNX Runtime does not run.
        ModelError: It has other inputs or outputs, or a batch of a fixed size.
    """
    read_model(path)
    inputs, outputs = described(path, SessionOptions())
    if len(inputs) != 1:
        raise ModelError(f"{path}: it takes {_told(inputs)}, but the task gives one array; {_remedy(inputs)}")
    if len(outputs) != 1:
        raise ModelError(f"{path}: it gives {_told(outputs)}, and which of them is the answer is not known; {_REMEDY}")
    (taken,) = inputs
    if taken.shape and isinstance(taken.shape[0], int):
        raise ModelError(
            f"{path}: it takes {_told(inputs)}, a batch of {taken.shape[0]} and no other; export it with a dynamic "
            "batch, as `dynamic_axes={NAME: {0: 'batch'}}` does"
        )
    return OnnxModel(path)


def require_onnx_fit(model: OnnxModel, inputs: npt.NDArray[Any], outputs: int | None) -> None:
    """Runs the graph on inputs [b, ...] of the task, which asks for so many outputs; None are embeddings, of any width.

    Raises:
        ModelError: It does not run on them, or gives something else than finite numbers [b, outputs].
    """
    (taken,), _ = described(model.path, SessionOptions())
    if taken.dtype != str(inputs.dtype):
        raise ModelError(
            f"{model.path}: it takes {_told([taken])}, but the task gives {inputs.dtype}; export it in {inputs.dtype}"
        )
    asked = taken.shape[1:]
    fits = len(asked) == inputs.ndim - 1 and all(
        isinstance(size, str) or size == given for size, given in zip(asked, inputs.shape[1:], strict=True)
    )
    if taken.shape and not fits:
        remedy = "set the task's `size` and `channels`, or give a graph for such inputs"
        if inputs.dtype.kind == "i":
            remedy = "texts have any length: export it with a dynamic one"
        raise ModelError(
            f"{model.path}: it takes {_told([taken])}, but the task's inputs are {list(inputs.shape[1:])} a sample; "
            f"{remedy}"
        )
    try:
        answers = OnnxNetwork(model.path).answers(inputs)
    except RUNTIME_ERRORS as error:
        raise ModelError(f"{model.path}: it does not run on inputs of shape {list(inputs.shape)}: {error}") from error
    if answers.ndim != 2 or len(answers) != len(inputs) or outputs not in (None, answers.shape[1]):
        wanted = "asks for one number a sample" if outputs == 1 else f"has {outputs} labels"
        wanted = wanted if outputs else "asks for an embedding of each"
        raise ModelError(
            f"{model.path}: it gives shape {list(answers.shape)} for {len(inputs)} inputs, but the task {wanted} and "
            f"needs [{len(inputs)}, {outputs or 'width'}]; give a graph that was trained for this task"
        )
    if not np.isfinite(answers).all():
        raise ModelError(f"{model.path}: it gives NaN or infinity on the task's own inputs; its weights are damaged")


class OnnxNetwork(nn.Module):
    """An ONNX graph that is called as a network is: answers alone, without gradients, by ONNX Runtime on all cores.

    Args:
        path: A file that `open_onnx` takes.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    @cached_property
    def _session(self) -> InferenceSession:
        return open_session(self.path, faithful(self.path, SessionOptions()), usable_cores())

    def forward(self, inputs: Tensor) -> Tensor:
        """The answers [b, outputs] to inputs [b, ...], on the device that these are on."""
        try:
            answers = self.answers(inputs.contiguous().cpu().numpy())
        except RUNTIME_ERRORS as error:
            raise ArtifactError(f"{self.path}: it does not run on inputs of shape {list(inputs.shape)}: {error}") from (
                error
            )
        return torch.from_numpy(answers).to(inputs.device)

    def answers(self, inputs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """As `forward`, from array to array."""
        (name,) = (value.name for value in self._session.get_inputs())
        found: npt.NDArray[np.float32] = np.asarray(self._session.run(None, {name: inputs})[0], np.float32)
        return found


def _remedy(inputs: list[TensorInfo] | tuple[TensorInfo, ...]) -> str:
    if any(one.dtype.startswith("int") for one in inputs):
        return (
            "give the network itself (`hf` or `sentence_transformers`), which is exported with `input_ids` alone and "
            "finds the padding by itself"
        )
    return _REMEDY


def _told(tensors: list[TensorInfo] | tuple[TensorInfo, ...]) -> str:
    return ", ".join(f"`{one.name}` {one.dtype} {list(one.shape)}" for one in tensors) or "nothing"
