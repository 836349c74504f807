"""Tensors of a request, checked against the manifest: what does not fit exactly is refused, nothing is converted."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from compresslab.errors import DataError, did_you_mean
from compresslab.serving.tensors import datatype, takes_batches

if TYPE_CHECKING:
    from compresslab.measure.artifact import GraphInfo, TensorInfo

# What a list of JSON numbers may be as numpy reads it, for each kind of tensor: a whole number is a fine float, but
# not the other way round, and true and false are no numbers.
_KINDS = {"f": "fiu", "i": "iu", "u": "iu", "b": "b"}


class GivenTensor(Protocol):
    """An input of a request, by the Open Inference Protocol."""

    @property
    def name(self) -> str:
        """Which input."""

    @property
    def datatype(self) -> str:
        """`FP32` and the like."""

    @property
    def shape(self) -> Sequence[int]:
        """With the batch."""

    @property
    def data(self) -> Any:
        """Bytes in little-endian order, or numbers, nested or in one list."""


def feed(given: Sequence[GivenTensor], info: GraphInfo, max_batch: int) -> dict[str, npt.NDArray[Any]]:
    """What the graph is fed, by the names of its inputs.

    Args:
        given: The inputs of a request.
        info: The graph.
        max_batch: The largest first axis of a graph that takes batches.

    Raises:
        DataError: An input is missing, unknown, there twice, or has another type, shape or number of values.
    """
    wanted = {tensor.name: tensor for tensor in info.inputs}
    names = [tensor.name for tensor in given]
    for name in names:
        if name not in wanted:
            raise DataError(f"there is no input `{name}`{did_you_mean(name, list(wanted))}; {_takes(info)}")
    for name in wanted:
        if names.count(name) != 1:
            raise DataError(f"the input `{name}` is there {names.count(name)} times; {_takes(info)}")
    batches = takes_batches(info)
    fed = {tensor.name: _array(tensor, wanted[tensor.name], max_batch if batches else None) for tensor in given}
    rows = {name: array.shape[0] for name, array in fed.items()} if batches else {}
    if len(set(rows.values())) > 1:
        raise DataError(f"the inputs must have the same first axis, but got {rows}")
    return fed


def outputs_wanted(names: Sequence[str], info: GraphInfo) -> list[str]:
    """The outputs that a request asks for by name; all of them if it names none.

    Raises:
        DataError: There is no such output.
    """
    known = [tensor.name for tensor in info.outputs]
    for name in names:
        if name not in known:
            raise DataError(f"there is no output `{name}`{did_you_mean(name, known)}; it gives {', '.join(known)}")
    return list(dict.fromkeys(names)) or known


def _array(given: GivenTensor, tensor: TensorInfo, max_batch: int | None) -> npt.NDArray[Any]:
    expected = datatype(tensor)
    if given.datatype != expected:
        raise DataError(f"the input `{tensor.name}` must be {expected}, but got {given.datatype}")
    shape = list(given.shape)
    fits = len(shape) == len(tensor.shape) and all(
        size >= 1 if isinstance(fixed, str) else size == fixed for size, fixed in zip(shape, tensor.shape, strict=True)
    )
    if not fits:
        told = ", ".join(map(str, tensor.shape))
        raise DataError(f"the input `{tensor.name}` must have the shape [{told}], but got {shape}")
    if max_batch is not None and shape[0] > max_batch:
        raise DataError(f"the input `{tensor.name}` has {shape[0]} rows; at most {max_batch} are taken at once")
    array = _of_bytes(given, tensor, shape) if isinstance(given.data, bytes) else _of_numbers(given, tensor, shape)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise DataError(f"the input `{tensor.name}` has NaN or infinity, or a number that {tensor.dtype} cannot hold")
    return array


def _of_bytes(given: GivenTensor, tensor: TensorInfo, shape: Sequence[int]) -> npt.NDArray[Any]:
    dtype = np.dtype(tensor.dtype)
    if len(given.data) != prod(shape) * dtype.itemsize:
        raise DataError(
            f"the input `{tensor.name}` of {shape} must have {prod(shape) * dtype.itemsize} bytes, but got "
            f"{len(given.data)}"
        )
    return np.frombuffer(given.data, dtype.newbyteorder("<")).reshape(shape).astype(dtype, copy=False)


def _of_numbers(given: GivenTensor, tensor: TensorInfo, shape: Sequence[int]) -> npt.NDArray[Any]:
    if not isinstance(given.data, list):
        raise DataError(f"the data of `{tensor.name}` must be a list of numbers")
    try:
        read = np.array(given.data)
    except (ValueError, TypeError, OverflowError) as error:  # lists of different lengths, or nested too deeply
        raise DataError(f"the data of `{tensor.name}` are not a regular list of numbers ({error})") from error
    dtype = np.dtype(tensor.dtype)
    if read.dtype.kind not in _KINDS[dtype.kind] or (read.ndim != 1 and list(read.shape) != shape):
        raise DataError(
            f"the data of `{tensor.name}` must be numbers for {tensor.dtype}, in one list or nested as {shape}, "
            f"but got {_told(read)}"
        )
    if read.size != prod(shape):
        raise DataError(f"the input `{tensor.name}` of {shape} must have {prod(shape)} values, but got {read.size}")
    if (
        dtype.kind in "iu"
        and read.size
        and not (np.iinfo(dtype).min <= read.min() and read.max() <= np.iinfo(dtype).max)
    ):
        raise DataError(f"the input `{tensor.name}` has a number that {tensor.dtype} cannot hold")
    with np.errstate(over="ignore"):  # becomes infinite, which is refused
        return read.reshape(shape).astype(dtype)


def _told(read: npt.NDArray[Any]) -> str:
    kind = {"O": "other things", "U": "text", "b": "true or false"}.get(read.dtype.kind, str(read.dtype))
    return f"{kind} {list(read.shape)}"


def _takes(info: GraphInfo) -> str:
    return "it takes " + ", ".join(f"`{tensor.name}` {datatype(tensor)} {list(tensor.shape)}" for tensor in info.inputs)
