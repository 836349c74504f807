"""An artifact's outputs on a split, by ONNX Runtime: what is evaluated is what is served."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from compresslab.errors import ArtifactError, BenchmarkFailed
from compresslab.measure.machine import usable_cores
from compresslab.measure.runtime import RUNTIME_ERRORS
from compresslab.measure.session import open_session

if TYPE_CHECKING:
    from compresslab.measure.artifact import Artifact


@dataclass(frozen=True)
class EvalSplit:
    """Labelled examples: uint8 inputs [n, height, width, channels] (may be a memmap) and int64 targets [n]."""

    name: str
    inputs: npt.NDArray[np.uint8]
    targets: npt.NDArray[np.int64]


def predict(artifact: Artifact, inputs: npt.NDArray[np.uint8], batch: int = 256) -> npt.NDArray[np.float32]:
    """The outputs [n, classes] for uint8 inputs [n, height, width, channels], with all cores.

    Raises:
        ArtifactError: The artifact is broken, has several graphs, or its graph does not take what its preprocessing
            gives.
        BenchmarkFailed: Some outputs are NaN or infinite.
        DataError: The inputs are not what the preprocessing takes.
    """
    if len(artifact.graphs) != 1:
        raise ArtifactError(
            f"{artifact.folder}: one graph is needed to classify, but it has {', '.join(artifact.graphs)}"
        )
    (path,) = artifact.graphs.values()
    preprocessing = artifact.manifest.preprocessing
    session = open_session(path, artifact.manifest.session, usable_cores())
    name, output = session.get_inputs()[0].name, session.get_outputs()[0].name
    parts = []
    for start in range(0, len(inputs), batch):
        images = preprocessing.graph_input(inputs[start : start + batch])
        try:
            parts.append(session.run([output], {name: images})[0])
        except RUNTIME_ERRORS as error:
            raise ArtifactError(
                f"{path}: it does not run on {images.dtype} {list(images.shape)}, which its preprocessing gives "
                f"({error}); export the model again, with a dynamic batch"
            ) from error
    outputs = np.concatenate(parts) if parts else np.empty((0, 0), np.float32)
    if outputs.ndim != 2 or len(outputs) != len(inputs):
        raise ArtifactError(
            f"{path}: outputs must be [n, classes], but {len(inputs)} inputs gave {list(outputs.shape)}"
        )
    broken = int((~np.isfinite(outputs)).any(axis=1).sum())
    if broken:
        raise BenchmarkFailed(
            f"{path}: {broken} of {len(outputs)} outputs are NaN or infinite; the weights or the quantization ranges "
            "are broken"
        )
    return outputs.astype(np.float32, copy=False)
