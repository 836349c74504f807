"""Opens ONNX Runtime sessions from plain values: numpy and onnxruntime only, as the measuring process needs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from compresslab.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# ONNX Runtime's errors have no common root of their own.
RUNTIME_ERRORS = (
    ort_errors.Fail,
    ort_errors.EPFail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NoModel,
    ort_errors.NoSuchFile,
    ort_errors.NotFound,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)

_LEVELS = {
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "disabled": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
}
_ERROR = 3


def open_graph(
    path: Path,
    *,
    threads: int,
    graph_optimization: str,
    allow_spinning: bool,
    disabled_optimizers: Sequence[str],
    provider: str,
    optimized: Path | None = None,
    profile: Path | None = None,
) -> onnxruntime.InferenceSession:
    """A session on the ONNX file at `path`; the meaning of the rest is in `session.SessionOptions`.

    Args:
        path: The ONNX file.
        threads: Threads inside an operator; operators run one after the other.
        graph_optimization: "all", "extended", "basic" or "disabled".
        allow_spinning: Whether idle threads spin.
        disabled_optimizers: Names of ONNX Runtime's graph transformers to leave out.
        provider: The execution provider.
        optimized: Where to write the graph as it is after optimisation; None for nowhere.
        profile: What the name of the profile begins with, which is written when profiling ends; None for no profile.

    Raises:
        ArtifactError: The file is missing, broken, or has operators that this ONNX Runtime cannot run.
    """
    if provider not in onnxruntime.get_available_providers():
        raise ArtifactError(
            f"{path}: this ONNX Runtime has no {provider}, but {', '.join(onnxruntime.get_available_providers())}; "
            "install the onnxruntime package that has it, or choose another"
        )
    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERROR
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = _LEVELS[graph_optimization]
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if allow_spinning else "0")
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    try:
        return onnxruntime.InferenceSession(
            str(path), options, providers=[provider], disabled_optimizers=list(disabled_optimizers)
        )
    except RUNTIME_ERRORS as error:
        raise ArtifactError(
            f"{path}: ONNX Runtime {onnxruntime.__version__} cannot open it ({str(error).strip()}); "
            "export the model again"
        ) from error
