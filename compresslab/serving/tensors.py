"""Tensor types by the names of the Open Inference Protocol, and whether a graph takes batches of any size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compresslab.errors import ArtifactError

if TYPE_CHECKING:
    from compresslab.measure.artifact import GraphInfo, TensorInfo

_DATATYPES = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "int8": "INT8",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
}


def datatype(tensor: TensorInfo) -> str:
    """`FP32` for float32.

    Raises:
        ArtifactError: The protocol has no such type, or we do not serve it.
    """
    if tensor.dtype not in _DATATYPES:
        raise ArtifactError(
            f"`{tensor.name}` is {tensor.dtype}, which is not served; types that are: {', '.join(_DATATYPES)}"
        )
    return _DATATYPES[tensor.dtype]


def dims(tensor: TensorInfo) -> list[int]:
    """The shape with -1 for every dimension that is not fixed."""
    return [size if isinstance(size, int) else -1 for size in tensor.shape]


def takes_batches(info: GraphInfo) -> bool:
    """Whether the first axis of every input and output is one and the same dynamic axis, the batch."""
    first = {tensor.shape[:1] for tensor in (*info.inputs, *info.outputs)}
    return len(first) == 1 and all(axis and isinstance(axis[0], str) for axis in first)
