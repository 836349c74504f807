"""Puts the normalization of images into the graph, so that clients send raw pixels: a quarter of the bytes, no mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from compresslab.digest import digest_file
from compresslab.errors import BadInput, ParityError
from compresslab.measure.artifact import Artifact, GraphInfo, Manifest, TensorInfo
from compresslab.measure.session import open_session
from compresslab.measure.subject import made_up_samples

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from compresslab.measure.preprocessing import ImagePreprocessing, PixelInput

_NAMES = ("pixels", "raw_pixels", "input_pixels")
TOLERANCE = 1e-5
"""Largest difference of outputs, relative to their scale, that the folded graph may have on made-up images."""


def fold(artifact: Artifact, pixels: PixelInput, folder: Path) -> tuple[Artifact, float]:
    """Writes the artifact with a graph that takes pixels 0..255 and normalizes them itself into `folder`.

    The arithmetic is that of `ImagePreprocessing.normalize`, multiplication and subtraction in float32, so the outputs
    are the same; that is checked. The manifest's preprocessing says how pixels are taken.

    Args:
        artifact: Has one graph, which takes normalized images; left as it is.
        pixels: Their type and layout.
        folder: There, and without a file of the graph's name.

    Returns:
        What was written, without labels file, card and manifest; and the largest difference of an output.

    Raises:
        BadInput: The artifact has several graphs, or does not take normalized images.
        ParityError: The outputs are not those of the graph before; nothing is to be trusted then.
    """
    manifest = artifact.manifest
    name, info, how = _foldable(artifact)
    model = onnx.load_model_from_string(artifact.graphs[name].read_bytes())
    taken = _prepend(model, info.inputs[0], how, pixels)
    onnx.checker.check_model(model)
    path = folder / info.file
    path.write_bytes(model.SerializeToString(deterministic=True))
    changed = {
        "sha256": digest_file(path),
        "bytes": path.stat().st_size,
        "inputs": (taken,),
    }
    folded = Artifact(
        folder,
        {name: path},
        manifest.model_copy(
            update={
                "graphs": {name: info.model_copy(update=changed)},
                "preprocessing": how.model_copy(update={"folded": pixels}),
                "parity": None,
                "files": {},
                "provenance": {**manifest.provenance, "folded": {"pixels": pixels, "sha256": info.sha256}},
            }
        ),
    )
    return folded, _difference(artifact, folded)


def _foldable(artifact: Artifact) -> tuple[str, GraphInfo, ImagePreprocessing]:
    manifest = artifact.manifest
    if len(manifest.graphs) > 1:
        raise BadInput(
            f"{artifact.folder}: `--fold-preprocessing` needs one graph, but it has {', '.join(manifest.graphs)}: "
            "which of them take images is not known; leave it out"
        )
    ((name, info),) = manifest.graphs.items()
    how = manifest.preprocessing
    if how.kind != "image":
        raise BadInput(
            f"{artifact.folder}: `--fold-preprocessing` is for models of images, but this one takes {how.kind}; "
            "leave it out"
        )
    if how.folded is not None:
        raise BadInput(
            f"{artifact.folder}: its graph normalizes by itself already ({how.folded}); leave the option out"
        )
    expected = (how.channels, how.height, how.width)
    if len(info.inputs) != 1 or info.inputs[0].dtype != "float32" or info.inputs[0].shape[1:] != expected:
        raise BadInput(
            f"{artifact.folder}: `{info.file}` does not take float32 [n, {', '.join(map(str, expected))}], which its "
            "preprocessing gives; only such a graph can have its normalization folded in"
        )
    return name, info, how


def _prepend(
    model: onnx.ModelProto, tensor: TensorInfo, preprocessing: ImagePreprocessing, pixels: PixelInput
) -> TensorInfo:
    """Changes `model` in place; the old input becomes the result of the new nodes, so nothing else is touched."""
    taken = set(_names(model.graph))
    dtype, layout = pixels.split("-")
    channels, height, width = preprocessing.channels, preprocessing.height, preprocessing.width
    shape = (height, width, channels) if layout == "nhwc" else (channels, height, width)
    fresh = _unused(taken, _NAMES)
    nodes: list[onnx.NodeProto] = []
    value = fresh
    if layout == "nhwc":
        value = _add(nodes, taken, "Transpose", [value], perm=[0, 3, 1, 2])
    if dtype == "uint8":
        value = _add(nodes, taken, "Cast", [value], to=TensorProto.FLOAT)
    for operator, numbers in (
        ("Mul", [1.0 / (255.0 * std) for std in preprocessing.std]),
        ("Sub", [mean / std for mean, std in zip(preprocessing.mean, preprocessing.std, strict=True)]),
    ):
        constant = _unused(taken, (f"pixel_{operator.lower()}",))
        array = np.asarray(numbers, np.float32).reshape(1, channels, 1, 1)
        model.graph.initializer.append(numpy_helper.from_array(array, constant))
        value = _add(nodes, taken, operator, [value, constant])
    nodes[-1].output[0] = tensor.name
    following = [*nodes, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(following)
    old = next(one for one in model.graph.input if one.name == tensor.name)
    kind = TensorProto.UINT8 if dtype == "uint8" else TensorProto.FLOAT
    old.CopyFrom(helper.make_tensor_value_info(fresh, kind, [tensor.shape[0], *shape]))
    return TensorInfo(name=fresh, dtype=dtype, shape=(tensor.shape[0], *shape))


def _add(
    nodes: list[onnx.NodeProto],
    taken: set[str],
    operator: str,
    inputs: list[str],
    *,
    perm: list[int] | None = None,
    to: int | None = None,
) -> str:
    """Appends a node and returns the name of its output."""
    output = _unused(taken, (f"pixels_{operator.lower()}",))
    node = helper.make_node(operator, inputs, [output], name=_unused(taken, (f"normalize_{operator.lower()}",)))
    for key, value in (("perm", perm), ("to", to)):
        if value is not None:
            node.attribute.append(helper.make_attribute(key, value))
    nodes.append(node)
    return output


def _names(graph: onnx.GraphProto) -> Iterator[str]:
    """Every name in the graph and in those inside it."""
    yield from (value.name for value in (*graph.input, *graph.output, *graph.initializer))
    for node in graph.node:
        yield node.name
        yield from (*node.input, *node.output)
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _names(inner)


def _unused(taken: set[str], wanted: tuple[str, ...]) -> str:
    """The first of `wanted` that is free, or else the last with a number; it is taken then."""
    numbered = (f"{wanted[-1]}_{number}" for number in range(1, len(taken) + 2))
    name = next(name for name in (*wanted, *numbered) if name not in taken)
    taken.add(name)
    return name


def _difference(before: Artifact, after: Artifact) -> float:
    images = made_up_samples(before.manifest.preprocessing)
    first, second = (_outputs(artifact, images) for artifact in (before, after))
    largest = 0.0
    for name, reference in first.items():
        difference = float(np.abs(reference.astype(np.float64) - second[name]).max())
        scale = max(1.0, float(np.abs(reference).max()))
        if not difference <= TOLERANCE * scale:
            raise ParityError(
                f"{before.folder}: with the normalization in the graph, `{name}` differs by up to {difference:.2g} on "
                f"made-up images, and {TOLERANCE * scale:.2g} is allowed; serve it without --fold-preprocessing"
            )
        largest = max(largest, difference)
    return largest


def _outputs(artifact: Artifact, images: np.ndarray) -> dict[str, np.ndarray]:
    manifest: Manifest = artifact.manifest
    ((name, info),) = manifest.graphs.items()
    session = open_session(artifact.graphs[name], manifest.session, 1)
    size = info.inputs[0].shape[0]
    step = len(images) if isinstance(size, str) else size
    names = [output.name for output in info.outputs]
    parts = []
    for start in range(0, len(images) - step + 1, step):
        fed = manifest.preprocessing.graph_input(images[start : start + step])
        parts.append(session.run(names, {info.inputs[0].name: fed}))
    return {name: np.concatenate([np.atleast_1d(part[index]) for part in parts]) for index, name in enumerate(names)}
