"""What a measuring process is given: a model's graphs, how they are opened, and what they are fed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from compresslab.errors import ArtifactError, DataError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from compresslab.measure.artifact import Artifact
    from compresslab.measure.preprocessing import ImagePreprocessing
    from compresslab.measure.session import SessionOptions

# So many different examples are called in turn: kernels do not look at values, but caches and denormals do.
EXAMPLES = 32
_SEED = 0


@dataclass(frozen=True)
class Subject:
    """A model to measure.

    Attributes:
        name: What to call it.
        graphs: The ONNX file of each graph.
        session: How they are opened.
        inputs: By graph and input name, arrays [n, ...] that batches are cut from; n is a multiple of every batch, or
            larger than it. An array without axes is fed as it is.
    """

    name: str
    graphs: Mapping[str, Path]
    session: SessionOptions
    inputs: Mapping[str, Mapping[str, npt.NDArray[Any]]]

    def file(self, graph: str) -> Path:
        """The ONNX file of a graph.

        Raises:
            ArtifactError: There is no such graph.
        """
        if graph not in self.graphs:
            raise ArtifactError(f"{self.name}: bench names the graph `{graph}`, but it has {', '.join(self.graphs)}")
        return self.graphs[graph]


def subject_of(artifact: Artifact, examples: npt.NDArray[np.uint8], largest_batch: int) -> Subject:
    """An artifact, fed with real examples, uint8 [n, height, width, channels]; few are repeated.

    Raises:
        DataError: There are no examples, or they are not what its preprocessing takes.
    """
    if len(examples) == 0:
        raise DataError("there are no examples to measure with; give a validation split")
    chosen = examples[np.arange(max(EXAMPLES, largest_batch)) % len(examples)]
    images = artifact.manifest.preprocessing.graph_input(chosen)
    inputs = {name: {info.inputs[0].name: images} for name, info in artifact.manifest.graphs.items()}
    return Subject(str(artifact.folder), artifact.graphs, artifact.manifest.session, inputs)


def made_up_images(preprocessing: ImagePreprocessing) -> npt.NDArray[np.uint8]:
    """Noise as the preprocessing takes it, the same every time: for timing, where there is no data."""
    shape = (EXAMPLES, preprocessing.height, preprocessing.width, preprocessing.channels)
    return np.random.default_rng(_SEED).integers(0, 256, shape, np.uint8)
