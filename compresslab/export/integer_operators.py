"""Which operators run as integer kernels, read from the graph as ONNX Runtime runs it, and why the others do not."""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx

from compresslab.export.graph_reading import GraphReading
from compresslab.measure.measurement import IntegerOperators
from compresslab.measure.session import SessionOptions, open_session

INTEGER_KERNELS = (
    "QLinearConv", "ConvInteger", "QGemm", "QLinearMatMul", "MatMulInteger", "MatMulIntegerToFloat",
    "DynamicQuantizeMatMul", "QLinearAdd", "QLinearAveragePool", "QLinearGlobalAveragePool",
)  # fmt: skip

_ROUNDS_WEIGHTS = "WeightBiasQuantization"
_ROUNDED = ("Conv", "Gemm")


def integer_operators(path: Path, options: SessionOptions) -> IntegerOperators:
    """How many of the eligible operators of a quantized graph run as integer kernels, under these session options.

    Eligible is what the quantizers aim at, because ONNX Runtime has integer kernels for it: Conv, Gemm, MatMul,
    AveragePool, GlobalAveragePool, and Add of two computed tensors (a bias is part of its layer) but for the residual
    sums that only normalizations and each other read, which are float by design. Max pooling, reshaping and activations
    are not counted: they do no arithmetic of their own, or are fused. In a graph that is quantized as its values come
    only the products are eligible; in a float model nothing is.

    An activation that stands between integers and has no integer kernel, such as hard swish, is not eligible; it is
    named among those in float all the same, behind the others.

    Raises:
        ArtifactError: ONNX Runtime cannot open the file.
    """
    model = onnx.load(str(path))
    if not any(node.op_type in ("QuantizeLinear", "DynamicQuantizeLinear") for node in model.graph.node):
        return IntegerOperators(0, 0)
    source = GraphReading.of(model)
    eligible = {f"operator<{index}>": node for index, node in enumerate(source.eligible())}
    names = {tag: source.name(node) for tag, node in eligible.items()}
    interrupting = [_line(source, node, source.name(node)) for node in source.interrupting()]
    kernels = _kernels(model, eligible, options)
    integer = [tag for tag in eligible if any(tag in kernel for kernel in kernels)]
    floating = tuple(_line(source, node, names[tag]) for tag, node in eligible.items() if tag not in integer)
    return IntegerOperators(len(eligible), len(integer), (*floating, *interrupting))


def _line(source: GraphReading, node: onnx.NodeProto, name: str) -> str:
    return f"{name} ({node.op_type}): {source.reason(node)}"


def faithful(path: Path, options: SessionOptions) -> SessionOptions:
    """Options under which what is float in the file stays float.

    ONNX Runtime's `WeightBiasQuantization` rounds the float weights of a convolution or Gemm between quantized values
    to int8, with one scale for all channels: a layer that was kept in float because it suffers would suffer more.

    Raises:
        ArtifactError: ONNX Runtime cannot open the file.
    """
    source = GraphReading.of(onnx.load(str(path)))
    at_risk = any(
        node.op_type in _ROUNDED and node.input[1] in source.constants and not source.dequantized(node.input[1])
        and source.dequantized(node.input[0])
        for node in source.eligible()
    )  # fmt: skip
    if not at_risk or _ROUNDS_WEIGHTS in options.disabled_optimizers:
        return options
    return options.model_copy(update={"disabled_optimizers": (*options.disabled_optimizers, _ROUNDS_WEIGHTS)})


def _kernels(model: onnx.ModelProto, tagged: dict[str, onnx.NodeProto], options: SessionOptions) -> list[str]:
    """The names of the integer kernels in the optimised graph, each of which contains the tag of what it was."""
    for tag, node in tagged.items():
        node.name = tag
    with tempfile.TemporaryDirectory() as folder:
        draft, optimized = Path(folder, "tagged.onnx"), Path(folder, "optimized.onnx")
        onnx.save(model, str(draft))
        open_session(draft, options, threads=1, optimized=optimized)
        graph = onnx.load(str(optimized)).graph
    return [node.name for node in graph.node if node.op_type in INTEGER_KERNELS]
