"""What the operators of a graph take, from ONNX Runtime's profile: which were left in float, and what that costs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import onnx

from compresslab.export.graph_reading import GraphReading
from compresslab.export.integer_operators import INTEGER_KERNELS
from compresslab.measure.measurement import InFloat
from compresslab.measure.profiling import KernelTime, kernel_times

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from compresslab.measure.measurement import IntegerOperators
    from compresslab.measure.session import SessionOptions

_CONVERSIONS = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Cast")
_DIGITS = 4


@dataclass(frozen=True)
class OperatorTime:
    """An operator that has an integer kernel, by the name it has in the file, and what it takes in a call.

    So is an activation that stands between integers and has none. An operator that is fused into another takes nothing.
    `integer` says whether it ran as an integer kernel, `reason` why it did not.
    """

    name: str
    kind: str
    reason: str
    integer: bool
    microseconds: float


@dataclass(frozen=True)
class GraphTimes:
    """`operators` in the file's order, activations behind the others; `kernels` are all that ran."""

    operators: tuple[OperatorTime, ...]
    kernels: tuple[KernelTime, ...]

    @property
    def total(self) -> float:
        """Microseconds of a call, inside kernels; never zero."""
        return sum(kernel.microseconds for kernel in self.kernels) or 1.0


def operator_times(
    path: Path, options: SessionOptions, feed: Mapping[str, npt.NDArray[Any]], threads: int = 1
) -> GraphTimes:
    """What every operator that has an integer kernel takes, be the graph quantized or not.

    And what those activations take that interrupt the integers of a quantized one.

    Args:
        path: The ONNX file.
        options: How it is run.
        feed: Real inputs, by name.
        threads: Inside an operator.

    Raises:
        ArtifactError: ONNX Runtime cannot open the file.
    """
    model = onnx.load(str(path))
    source = GraphReading.of(model)
    eligible = [*source.eligible(), *source.interrupting()]
    told = [(source.name(node), node.op_type, source.reason(node)) for node in eligible]
    # Blocked convolutions forget their names: they are called after what they give.
    results = [{f"{name}_nchwc" for name in (node.output[0], source.after(node))} for node in eligible]
    for index, node in enumerate(eligible):
        node.name = f"operator<{index}>"
    _open_hard_swishes(model.graph)
    with TemporaryDirectory() as folder:
        draft = Path(folder, "tagged.onnx")
        onnx.save(model, str(draft))
        kernels = kernel_times(draft, options, feed, threads)
    operators = []
    for index, (name, kind, reason) in enumerate(told):
        ours = [kernel for kernel in kernels if f"operator<{index}>" in kernel.node or kernel.node in results[index]]
        integer = any(kernel.operator in INTEGER_KERNELS for kernel in ours)
        spent = sum((kernel.microseconds for kernel in ours), start=0.0)
        operators.append(OperatorTime(name, kind, "" if integer else reason, integer, spent))
    return GraphTimes(tuple(operators), kernels)


def with_times(
    found: IntegerOperators,
    path: Path,
    options: SessionOptions,
    feed: Mapping[str, npt.NDArray[Any]],
    threads: int,
) -> IntegerOperators:
    """The same, with what each operator left in float takes of the time; of a float graph there is nothing to tell.

    Args:
        found: What `integer_operators` counted.
        path: The ONNX file.
        options: How it is run.
        feed: Real inputs, by name.
        threads: Inside an operator.
    """
    if found.eligible == 0:
        return found
    times = operator_times(path, options, feed, threads)
    left = tuple(
        InFloat(one.name, one.kind, one.reason, round(one.microseconds / times.total, _DIGITS))
        for one in times.operators
        if not one.integer
    )
    return replace(found, in_float=left, time=_shares(times.kernels, times.total))


def _open_hard_swishes(graph: onnx.GraphProto) -> None:
    """Each becomes the two operators that ONNX Runtime makes of it, which would have no names."""
    nodes = []
    for node in graph.node:
        if node.op_type != "HardSwish":
            nodes.append(node)
            continue
        gate = f"{node.output[0]}/gate"
        nodes += [
            onnx.helper.make_node("HardSigmoid", node.input, [gate], f"{node.name}/gate", alpha=1 / 6, beta=0.5),
            onnx.helper.make_node("Mul", [node.input[0], gate], node.output, f"{node.name}/product"),
        ]
    del graph.node[:]
    graph.node.extend(nodes)


def _shares(kernels: Sequence[KernelTime], total: float) -> dict[str, float]:
    spent = {"integer": 0.0, "conversions": 0.0, "float": 0.0}
    for kernel in kernels:
        where = "integer" if kernel.operator in INTEGER_KERNELS else "float"
        spent["conversions" if kernel.operator in _CONVERSIONS else where] += kernel.microseconds
    return {name: round(value / total, _DIGITS) for name, value in spent.items()}
