"""Runs an exported graph in Triton's Python backend, which needs numpy and onnxruntime beside this file.

The file is copied into a model repository, as `NAME/1/model.py`; compresslab need not be installed there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils

LEVELS = {
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "disabled": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
}


class TritonPythonModel:
    """One instance; Triton has checked names, types and shapes against config.pbtxt before it calls `execute`."""

    def initialize(self, args: dict[str, str]) -> None:
        """Opens the graph that the manifest describes, after every file was compared with its hash."""
        folder = Path(args["model_repository"]) / args["model_version"]
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        (info,) = manifest["graphs"].values()
        for name, sha256 in {**manifest["files"], info["file"]: info["sha256"]}.items():
            path = folder / name
            content = path.read_bytes() if path.is_file() else b""
            if hashlib.sha256(content).hexdigest() != sha256:
                raise pb_utils.TritonModelException(f"{path}: missing, or not the file that was exported")
        config, told = json.loads(args["model_config"]), manifest["session"]
        onnxruntime.disable_telemetry_events()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = int(config["parameters"]["intra_op_thread_count"]["string_value"])
        options.inter_op_num_threads = 1
        options.graph_optimization_level = LEVELS[told["graph_optimization"]]
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(told["allow_spinning"])))
        # The graph is the last that was read: these are the bytes whose hash is right.
        self.session = onnxruntime.InferenceSession(
            content, options, providers=[told["provider"]], disabled_optimizers=told["disabled_optimizers"]
        )
        self.inputs = [tensor["name"] for tensor in info["inputs"]]
        self.outputs = [tensor["name"] for tensor in info["outputs"]]
        self.gathers = config["max_batch_size"] > 0

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answers requests that Triton has gathered, which have the same shapes but for the batch, by one call."""
        given = [[pb_utils.get_input_tensor_by_name(one, name).as_numpy() for name in self.inputs] for one in requests]
        if not self.gathers:
            return [self.respond(self.run(one)) for one in given]
        ends = np.cumsum([len(one[0]) for one in given])[:-1]
        outputs = self.run([np.concatenate(arrays) for arrays in zip(*given, strict=True)])
        answers = zip(*(np.split(output, ends) for output in outputs), strict=True)
        return [self.respond(answer) for answer in answers]

    def run(self, inputs: Sequence[Any]) -> list[Any]:
        """The outputs for inputs in the order of the manifest."""
        outputs: list[Any] = self.session.run(self.outputs, dict(zip(self.inputs, inputs, strict=True)))
        return outputs

    def respond(self, answer: Sequence[Any]) -> Any:
        """One request's outputs, in the order of the manifest."""
        named = zip(self.outputs, answer, strict=True)
        tensors = [pb_utils.Tensor(name, np.ascontiguousarray(output)) for name, output in named]
        return pb_utils.InferenceResponse(output_tensors=tensors)
