"""Gives the input and the output of a graph other names, where who loads it feeds and reads tensors by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper, numpy_helper

from compresslab.digest import digest_file
from compresslab.errors import ParityError
from compresslab.measure.artifact import Artifact
from compresslab.measure.session import open_session

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from compresslab.measure.artifact import TensorInfo
    from compresslab.measure.preprocessing import Samples


def renamed(
    artifact: Artifact, names: Mapping[str, str], folder: Path, samples: Samples, *, sequence: str | None = None
) -> Artifact:
    """Writes the artifact's one graph with other names of tensors into `folder`; no number changes.

    Args:
        artifact: Left as it is.
        names: The new name of each tensor, by the old one.
        folder: There, and without a file of the graph's name.
        samples: On which both graphs must give the same numbers.
        sequence: Names a second output, the first [batch, width] as sequences of one [batch, 1, width]; None adds none.

    Raises:
        ParityError: They do not; nothing is to be trusted then.
    """
    manifest = artifact.manifest
    ((graph, info),) = manifest.graphs.items()
    model = onnx.load_model_from_string(artifact.graphs[graph].read_bytes())
    _rename(model.graph, _complete(names, model.graph, () if sequence is None else (sequence,)))
    outputs = tuple(_told(one, names) for one in info.outputs)
    if sequence is not None:
        outputs += (_add_sequence(model.graph, outputs[0], sequence),)
    onnx.checker.check_model(model)
    path = folder / info.file
    path.write_bytes(model.SerializeToString(deterministic=True))

    changed = {
        "sha256": digest_file(path),
        "bytes": path.stat().st_size,
        "inputs": tuple(_told(one, names) for one in info.inputs),
        "outputs": outputs,
    }
    provenance = {**manifest.provenance, "renamed": {"names": dict(names), "sha256": info.sha256}}
    made = Artifact(
        folder,
        {graph: path},
        manifest.model_copy(
            update={"graphs": {graph: info.model_copy(update=changed)}, "files": {}, "provenance": provenance}
        ),
    )
    _require_same(artifact, made, samples)
    return made


def _told(tensor: TensorInfo, names: Mapping[str, str]) -> TensorInfo:
    return tensor.model_copy(update={"name": names.get(tensor.name, tensor.name)})


def _add_sequence(graph: onnx.GraphProto, output: TensorInfo, name: str) -> TensorInfo:
    """A node behind the output, in place; zero keeps the size of the batch, and minus one takes what is left."""
    taken = set(_names(graph))
    shape = next(one for one in (f"{name}_shape_{number}" for number in range(len(taken) + 1)) if one not in taken)
    graph.initializer.append(numpy_helper.from_array(np.array([0, 1, -1], np.int64), shape))
    graph.node.append(helper.make_node("Reshape", [output.name, shape], [name]))
    batch, width = output.shape
    kind = next(one.type.tensor_type.elem_type for one in graph.output if one.name == output.name)
    graph.output.append(helper.make_tensor_value_info(name, kind, [batch, 1, width]))
    return output.model_copy(update={"name": name, "shape": (batch, 1, width)})


def _complete(names: Mapping[str, str], graph: onnx.GraphProto, added: Sequence[str] = ()) -> dict[str, str]:
    """With what has a new name, or that of what is added, by chance already moved out of the way."""
    taken = set(_names(graph))
    moved = dict(names)
    for new in (*names.values(), *added):
        if new in taken and new not in names:
            free = next(name for name in (f"{new}_{number}" for number in range(len(taken) + 1)) if name not in taken)
            moved[new] = free
    return moved


def _names(graph: onnx.GraphProto) -> Iterator[str]:
    yield from (value.name for value in (*graph.input, *graph.output, *graph.initializer))
    for node in graph.node:
        yield from (*node.input, *node.output)
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _names(inner)


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """In place, and in the graphs inside, which may read what is outside."""
    for value in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        for listed in (node.input, node.output):
            listed[:] = [names.get(name, name) for name in listed]
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                _rename(inner, names)


def _require_same(before: Artifact, after: Artifact, samples: Samples) -> None:
    first, second = (_outputs(artifact, samples) for artifact in (before, after))
    if len(second) > len(first):
        first.append(first[0][:, np.newaxis])
    if not all(np.array_equal(one, other, equal_nan=True) for one, other in zip(first, second, strict=True)):
        raise ParityError(
            f"{before.folder}: with other names of its tensors the graph gives other numbers; use --format onnx, which "
            "leaves it as it is"
        )


def _outputs(artifact: Artifact, samples: Samples) -> list[np.ndarray]:
    ((graph, info),) = artifact.manifest.graphs.items()
    session = open_session(artifact.graphs[graph], artifact.manifest.session, 1)
    size = info.inputs[0].shape[0]
    fed = artifact.manifest.preprocessing.graph_input(samples[: len(samples) if isinstance(size, str) else size])
    return [np.asarray(one) for one in session.run(None, {info.inputs[0].name: fed})]
