"""ONNX files that others give us."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from compresslab.errors import ArtifactError

if TYPE_CHECKING:
    from pathlib import Path


def read_model(path: Path) -> onnx.ModelProto:
    """The model in an ONNX file.

    Raises:
        ArtifactError: The file is missing, or holds no model.
    """
    try:
        model = onnx.load(str(path))
    except (OSError, DecodeError, onnx.checker.ValidationError) as error:
        raise ArtifactError(f"{path}: not a readable ONNX file ({error}); export the model again") from error
    if not model.graph.node or not model.opset_import:
        raise ArtifactError(f"{path}: not a readable ONNX file (it has no operators); export the model again")
    return model
