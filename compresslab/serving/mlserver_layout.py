"""A folder that MLServer starts from: one model a graph, run by `compresslab.serving.mlserver_runtime`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from compresslab.serving.tensors import datatype, dims
from compresslab.serving.texts import AT_MLSERVER, BYTES, TEXT, reads_texts

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from compresslab.measure.artifact import TensorInfo
    from compresslab.serving.part import Part

SETTINGS = "settings.json"
MODEL_SETTINGS = "model-settings.json"
RUNTIME = "compresslab.serving.mlserver_runtime.OnnxRuntime"


def write_mlserver(part: Part, folder: Path) -> None:
    """Writes one model: a bundle, and `model-settings.json` beside it, which may be edited.

    Raises:
        ArtifactError: A type that the protocol does not have.
    """
    part.write(folder, (AT_MLSERVER,) if reads_texts(part.artifact.manifest, part.graph) else ())
    (folder / MODEL_SETTINGS).write_text(json.dumps(model_settings(part), indent=2) + "\n", encoding="utf-8")


def model_settings(part: Part) -> dict[str, Any]:
    """`model-settings.json` of a graph; `extra` is what the runtime reads."""
    manifest, plan = part.artifact.manifest, part.plan
    info = manifest.graphs[part.graph]
    texts = [{"name": TEXT, "datatype": BYTES, "shape": [-1]}]
    return {
        "name": part.name,
        "platform": "onnxruntime",
        "implementation": RUNTIME,
        "inputs": texts if reads_texts(manifest, part.graph) else _tensors(info.inputs),
        "outputs": _tensors(info.outputs),
        "parameters": {
            "uri": ".",
            "version": "1",
            "extra": {
                "threads": plan.threads,
                "instances": plan.instances,
                "max_batch": plan.max_batch,
                "warm_up": [list(one) for one in plan.warm_up],
            },
        },
    }


def server_settings() -> dict[str, Any]:
    """`settings.json` of the server: inference in its own process, where ONNX Runtime's threads wait for no queue."""
    return {"debug": False, "parallel_workers": 0}


def _tensors(tensors: Sequence[TensorInfo]) -> list[dict[str, Any]]:
    return [{"name": one.name, "datatype": datatype(one), "shape": dims(one)} for one in tensors]
