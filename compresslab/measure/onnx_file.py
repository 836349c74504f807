"""A bare ONNX file, of any origin: what it takes and gives, by ONNX Runtime, and inputs made up to time it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from compresslab.errors import ArtifactError
from compresslab.measure.artifact import TensorInfo
from compresslab.measure.session import SessionOptions, open_session
from compresslab.measure.subject import EXAMPLES, Subject

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from onnxruntime import NodeArg

GRAPH = "model"
"""The name of the only graph of a bare file."""

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
    "tensor(bool)": "bool",
}
_SEED = 0


def signature(path: Path, session: SessionOptions | None = None) -> tuple[TensorInfo, ...]:
    """The inputs of the file's graph.

    Raises:
        ArtifactError: The file is missing, cut off, of an opset that this ONNX Runtime does not run, or takes
            something other than tensors of numbers.
    """
    if not path.is_file():
        raise ArtifactError(f"{path}: no such file; give an .onnx file, an exported model's folder or a run folder")
    return tuple(_tensor(path, found) for found in open_session(path, session or SessionOptions(), 1).get_inputs())


def described(path: Path, session: SessionOptions) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
    """The inputs and the outputs of the file's graph.

    Raises:
        ArtifactError: As `signature`.
    """
    opened = open_session(path, session, 1)
    inputs, outputs = opened.get_inputs(), opened.get_outputs()
    return tuple(_tensor(path, found) for found in inputs), tuple(_tensor(path, found) for found in outputs)


def differences(this: Sequence[TensorInfo], other: Sequence[TensorInfo]) -> str:
    """How two lists of tensors differ, as `this, but that`; empty if they do not. Names of dynamic axes may differ."""
    ours, theirs = ([(info.name, info.dtype, _fixed(info)) for info in one] for one in (this, other))
    return "" if ours == theirs else f"{_told(this)}, but {_told(other)}"


def onnx_subject(
    path: Path, batches: Sequence[int], dims: Mapping[str, int], session: SessionOptions | None = None
) -> Subject:
    """The file with made-up inputs, the same every time.

    Floats are drawn from a standard normal distribution; whole numbers are 0 or 1, which any vocabulary and mask has.

    Args:
        path: The ONNX file.
        batches: What it will be called with; where the first axis is fixed, that is the only batch there is.
        dims: Sizes of dynamic axes other than the first, by the names that they have in the file.
        session: How to open it.

    Raises:
        ArtifactError: As `signature`; or a dynamic axis has no size, or a batch is not the fixed one.
    """
    inputs = signature(path, session)
    rows = math.lcm(*batches)
    rows *= -(-EXAMPLES // rows)
    rng = np.random.default_rng(_SEED)
    made = {info.name: _made_up(path, info, batches, rows, dims, rng) for info in inputs}
    return Subject(str(path), {GRAPH: path}, session or SessionOptions(), {GRAPH: made})


def require_same_inputs(this: Sequence[TensorInfo], other: Sequence[TensorInfo], names: tuple[str, str]) -> None:
    """Refuses to compare two models that do not take the same tensors; names of dynamic axes may differ.

    Raises:
        ArtifactError: They differ; says in what.
    """
    ours, theirs = ({info.name: (info.dtype, _fixed(info)) for info in one} for one in (this, other))
    if ours != theirs:
        raise ArtifactError(
            f"{names[0]} takes {_told(this)}, but {names[1]} takes {_told(other)}; latencies compare only between "
            "models that take the same inputs: export both with the same signature"
        )


def _tensor(path: Path, found: NodeArg) -> TensorInfo:
    if found.type not in _DTYPES:
        raise ArtifactError(
            f"{path}: its tensor `{found.name}` is {found.type}; only tensors of numbers can be made up: "
            f"{', '.join(_DTYPES)}"
        )
    shape = (size if isinstance(size, int) else size or f"{found.name}_{axis}" for axis, size in enumerate(found.shape))
    return TensorInfo(name=found.name, dtype=_DTYPES[found.type], shape=tuple(shape))


def _made_up(
    path: Path,
    info: TensorInfo,
    batches: Sequence[int],
    rows: int,
    dims: Mapping[str, int],
    rng: np.random.Generator,
) -> npt.NDArray[Any]:
    if info.shape and isinstance(info.shape[0], int) and any(batch != info.shape[0] for batch in batches):
        raise ArtifactError(
            f"{path}: its input `{info.name}` takes a batch of {info.shape[0]} only, but {_list(batches)} is asked "
            f"for; set `batch: {info.shape[0]}`, or export the model with a dynamic batch"
        )
    shape = [rows] * bool(info.shape)
    for size in info.shape[1:]:
        if isinstance(size, str) and size not in dims:
            raise ArtifactError(
                f"{path}: the axis `{size}` of its input `{info.name}` {list(info.shape)} is dynamic; "
                f"say how long it is, as `--dim {size}=128`"
            )
        shape.append(dims[size] if isinstance(size, str) else size)
    if np.issubdtype(info.dtype, np.floating):
        return np.asarray(rng.standard_normal(shape)).astype(info.dtype)
    return np.asarray(rng.integers(0, 2, shape)).astype(info.dtype)


def _fixed(info: TensorInfo) -> tuple[int | None, ...]:
    return tuple(size if isinstance(size, int) else None for size in info.shape)


def _told(inputs: Sequence[TensorInfo]) -> str:
    return ", ".join(f"`{info.name}` {info.dtype} {list(info.shape)}" for info in inputs)


def _list(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
