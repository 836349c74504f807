"""A Triton model repository: one folder a graph, for the onnxruntime or the Python backend."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from compresslab.bundle.sealing import LABELS_FILE
from compresslab.errors import BadInput
from compresslab.serving.tensors import datatype, dims, takes_batches
from compresslab.serving.texts import at_triton, reads_texts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from compresslab.measure.artifact import Manifest, TensorInfo
    from compresslab.serving.part import Part

Backend = Literal["onnxruntime", "python"]

CONFIG = "config.pbtxt"
VERSION = "1"
_MODEL = Path(__file__).with_name("triton_model.py")
# The numbers that the backend has for ONNX Runtime's levels; `all` is what it does unasked.
_LEVELS = {"extended": 1, "basic": -1, "disabled": 2}


def write_triton(part: Part, folder: Path, backend: Backend) -> None:
    """Writes one model of a repository: `config.pbtxt`, and version 1, which is a bundle.

    Args:
        part: The graph.
        folder: The model's, there and empty; its name is not looked at.
        backend: `onnxruntime`, which NVIDIA's image has; `python` for servers that have that one alone.

    Raises:
        BadInput: The backend cannot run the graph as it was measured.
        ArtifactError: A type that the protocol does not have.
    """
    manifest = part.artifact.manifest
    if backend == "onnxruntime":
        _require_settings(manifest)
    (folder / VERSION).mkdir()
    if backend == "python":
        shutil.copyfile(_MODEL, folder / VERSION / "model.py")
    part.write(folder / VERSION, (at_triton(manifest, part.graph),) if reads_texts(manifest, part.graph) else ())
    (folder / CONFIG).write_text(config(part, backend), encoding="utf-8")


def config(part: Part, backend: Backend) -> str:
    """`config.pbtxt` of a graph."""
    manifest, plan = part.artifact.manifest, part.plan
    info = manifest.graphs[part.graph]
    batches = takes_batches(info)
    labelled = bool(manifest.labels) and len(info.outputs) == 1
    lines = [
        f"name: {quoted(part.name)}",
        f"backend: {quoted(backend)}",
        f"max_batch_size: {plan.max_batch if batches else 0}",
        *_tensors("input", info.inputs, batches, labels=False),
        *_tensors("output", info.outputs, batches, labels=labelled),
        f"instance_group [ {{ count: {plan.instances} kind: KIND_CPU }} ]",
    ]
    if batches and plan.batch > 1:
        lines.append(
            f"dynamic_batching {{ preferred_batch_size: [ {plan.batch} ] max_queue_delay_microseconds: "
            f"{plan.delay_us} }}"
        )
    lines.append(_parameter("intra_op_thread_count", str(plan.threads)))
    if backend == "onnxruntime":
        lines.append(_parameter("inter_op_thread_count", "1"))
        level = manifest.session.graph_optimization
        if level in _LEVELS:
            lines.append(f"optimization {{ graph {{ level: {_LEVELS[level]} }} }}")
    own = [size for tensor in info.inputs for size in tensor.shape[1 if batches else 0 :]]
    if all(isinstance(size, int) for size in own):  # how long a dynamic axis is, only a request knows
        lines += [_warm_up(info.inputs, size, calls, batches) for size, calls in plan.warm_up if batches or size == 1]
    return "\n".join(lines) + "\n"


def quoted(text: str) -> str:
    """A string of protobuf's text format; every byte that is not plain ASCII is an octal escape."""
    plain = (chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:03o}" for byte in text.encode())
    return f'"{"".join(plain)}"'


def _tensors(what: str, tensors: Sequence[TensorInfo], batches: bool, *, labels: bool) -> list[str]:
    # The bundle's own: its hash is in the manifest.
    label_file = f" label_filename: {quoted(f'{VERSION}/{LABELS_FILE}')}" if labels else ""
    return [
        f"{what} [ {{ name: {quoted(tensor.name)} data_type: {_type(tensor)} "
        f"dims: [ {_sizes(tensor, batches)} ]{label_file} }} ]"
        for tensor in tensors
    ]


def _warm_up(inputs: Sequence[TensorInfo], size: int, calls: int, batches: bool) -> str:
    fed = " ".join(
        f"inputs {{ key: {quoted(tensor.name)} value {{ data_type: {_type(tensor)} "
        f"dims: [ {_sizes(tensor, batches)} ] zero_data: true }} }}"
        for tensor in inputs
    )
    return f"model_warmup [ {{ name: {quoted(f'batch {size}')} batch_size: {size} count: {calls} {fed} }} ]"


def _type(tensor: TensorInfo) -> str:
    return f"TYPE_{datatype(tensor)}"


def _sizes(tensor: TensorInfo, batches: bool) -> str:
    """Triton adds the batch axis itself."""
    return ", ".join(map(str, dims(tensor)[1 if batches else 0 :]))


def _parameter(key: str, value: str) -> str:
    return f"parameters {{ key: {quoted(key)} value: {{ string_value: {quoted(value)} }} }}"


def _require_settings(manifest: Manifest) -> None:
    session = manifest.session
    if session.disabled_optimizers:
        raise BadInput(
            f"the model was measured without {', '.join(session.disabled_optimizers)}, and Triton's onnxruntime "
            "backend cannot leave out single optimizers; use `--backend python`"
        )
    if session.provider != "CPUExecutionProvider":
        raise BadInput(
            f"the model was measured on {session.provider}, and only the CPU is set up for Triton's onnxruntime "
            "backend; use `--backend python`"
        )
