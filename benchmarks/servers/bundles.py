"""Small bundles with made-up weights: of images, of features, and of two nets side by side, as two towers will be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from compresslab.bundle.sealing import seal
from compresslab.digest import digest_file
from compresslab.measure.artifact import Artifact, GraphInfo, Manifest, TensorInfo
from compresslab.measure.measurement import Latency
from compresslab.measure.preprocessing import FeaturePreprocessing, ImagePreprocessing

LABELS = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
SIDE = 28
_PREPROCESSING = ImagePreprocessing(height=SIDE, width=SIDE, channels=1, mean=(0.286,), std=(0.353,))


def image_bundle(folder: Path) -> Artifact:
    """A convolution, a pool and a matrix product, float32 [batch, 1, 28, 28] -> [batch, 10]; 20k parameters."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    info = _net(folder / "model.onnx", rng, outputs=len(LABELS), name="logits")
    manifest = Manifest(
        graphs={"model": info},
        preprocessing=_PREPROCESSING,
        labels=LABELS,
        params=20000,
        macs=130000,
        latency=latencies("model"),
        provenance={"run": {"pipeline": "fashion-like", "machine": {"cores": 2}}},
    )
    return seal(folder, manifest, "# fashion-like\n")


def two_graph_bundle(folder: Path) -> Artifact:
    """Two graphs: `image` as above but with 16 outputs, and `text`, int64 [batch, 8] and its mask -> [batch, 16]."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(1)
    image = _net(folder / "image.onnx", rng, outputs=16, name="embedding")
    text = _embedding(folder / "text.onnx", rng)
    manifest = Manifest(
        graphs={"image": image, "text": text},
        preprocessing=_PREPROCESSING,
        labels=(),
        params=20000,
        macs=130000,
        latency=latencies("image"),
        provenance={"run": {"pipeline": "pair", "machine": {"cores": 2}}},
    )
    return seal(folder, manifest, "# pair\n")


def feature_bundle(folder: Path) -> Artifact:
    """A weighted sum of five features, float32 [batch, 5] -> [batch, 1]: a price."""
    folder.mkdir(parents=True)
    weights = np.array([[1.0], [2.0], [-1.0], [0.5], [3.0]], np.float32)
    nodes = [helper.make_node("MatMul", ["features", "weights"], ["price"])]
    inputs = (TensorInfo(name="features", dtype="float32", shape=("batch", 5)),)
    given = (TensorInfo(name="price", dtype="float32", shape=("batch", 1)),)
    info = _save(folder / "model.onnx", nodes, [numpy_helper.from_array(weights, "weights")], inputs, given)
    how = FeaturePreprocessing(width=5, mean=(1.0, 2.0, 3.0, 4.0, 5.0), std=(1.0, 2.0, 1.0, 2.0, 1.0))
    manifest = Manifest(
        graphs={"model": info}, preprocessing=how, labels=(), target="price", params=5, macs=5, provenance={}
    )
    return seal(folder, manifest, "# price\n")


def latencies(graph: str) -> tuple[Latency, ...]:
    """Figures that speak for gathering eight requests on one thread: made up, for set-ups that are tested."""
    return tuple(
        Latency(graph, batch, 1, "example", "default", "CPUExecutionProvider", p50, None, None, p50, p50, 100)
        for batch, p50 in ((1, 0.2), (8, 0.4))
    )


def example_inputs(artifact: Artifact, graph: str, rows: int) -> dict[str, npt.NDArray[np.generic]]:
    """Inputs of a graph of one of these bundles, the same every time."""
    rng = np.random.default_rng(7)
    made: dict[str, npt.NDArray[np.generic]] = {}
    for tensor in artifact.manifest.graphs[graph].inputs:
        shape = [rows, *(size for size in tensor.shape[1:] if isinstance(size, int))]
        if np.issubdtype(tensor.dtype, np.floating):
            made[tensor.name] = rng.standard_normal(shape).astype(tensor.dtype)
        else:
            made[tensor.name] = rng.integers(0, 2, shape).astype(tensor.dtype)
    return made


def _net(path: Path, rng: np.random.Generator, outputs: int, name: str) -> GraphInfo:
    filters = rng.standard_normal((16, 1, 3, 3)).astype(np.float32) / 3
    weights = rng.standard_normal((16 * 9 * 9, outputs)).astype(np.float32) / 36
    nodes = [
        helper.make_node("Conv", ["pixels", "filters"], ["maps"], kernel_shape=[3, 3], pads=[0, 0, 0, 0]),
        helper.make_node("Relu", ["maps"], ["positive"]),
        helper.make_node("MaxPool", ["positive"], ["pooled"], kernel_shape=[2, 2], strides=[3, 3]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], [name]),
    ]
    initializers = [numpy_helper.from_array(filters, "filters"), numpy_helper.from_array(weights, "weights")]
    inputs = (TensorInfo(name="pixels", dtype="float32", shape=("batch", 1, SIDE, SIDE)),)
    given = (TensorInfo(name=name, dtype="float32", shape=("batch", outputs)),)
    return _save(path, nodes, initializers, inputs, given)


def _embedding(path: Path, rng: np.random.Generator) -> GraphInfo:
    """Looks up eight tokens, leaves out what the mask says, and adds up."""
    table = rng.standard_normal((50, 16)).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "tokens"], ["vectors"]),
        helper.make_node("Cast", ["mask"], ["weights"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["weights", "last"], ["columns"]),
        helper.make_node("Mul", ["vectors", "columns"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "middle"], ["embedding"], keepdims=0),
    ]
    initializers = [
        numpy_helper.from_array(table, "table"),
        numpy_helper.from_array(np.array([2], np.int64), "last"),
        numpy_helper.from_array(np.array([1], np.int64), "middle"),
    ]
    inputs = tuple(TensorInfo(name=name, dtype="int64", shape=("batch", 8)) for name in ("tokens", "mask"))
    given = (TensorInfo(name="embedding", dtype="float32", shape=("batch", 16)),)
    return _save(path, nodes, initializers, inputs, given)


def _save(
    path: Path,
    nodes: list[onnx.NodeProto],
    initializers: list[onnx.TensorProto],
    inputs: tuple[TensorInfo, ...],
    outputs: tuple[TensorInfo, ...],
) -> GraphInfo:
    kinds = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}
    values = [
        [helper.make_tensor_value_info(one.name, kinds[one.dtype], list(one.shape)) for one in tensors]
        for tensors in (inputs, outputs)
    ]
    graph = helper.make_graph(nodes, path.stem, values[0], values[1], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, path)
    return GraphInfo(
        file=path.name,
        sha256=digest_file(path),
        bytes=path.stat().st_size,
        opset=18,
        inputs=inputs,
        outputs=outputs,
    )
