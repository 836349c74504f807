"""What a measuring process is given: a model's graphs, how they are opened, and what they are fed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from compresslab.errors import ArtifactError, DataError
from compresslab.measure.tower_samples import TowerSamples

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from compresslab.measure.artifact import Artifact
    from compresslab.measure.preprocessing import Preprocessing, Samples
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


def subject_of(artifact: Artifact, examples: Samples | TowerSamples, largest_batch: int) -> Subject:
    """An artifact, fed with real examples [n, ...] as its preprocessing takes them; few are repeated.

    Of several towers each graph is fed with its own.

    Raises:
        DataError: There are no examples, or they are not what its preprocessing takes.
    """
    if len(examples) == 0:
        raise DataError("there are no examples to measure with; give a validation split")
    manifest = artifact.manifest
    inputs = {}
    for name, info in manifest.graphs.items():
        of_graph = examples.parts[name] if isinstance(examples, TowerSamples) else examples
        chosen = of_graph[np.arange(max(EXAMPLES, largest_batch)) % len(of_graph)]
        inputs[name] = {info.inputs[0].name: manifest.preprocessing_of(name).graph_input(chosen)}
    return Subject(str(artifact.folder), artifact.graphs, artifact.manifest.session, inputs)


def made_up_samples(preprocessing: Preprocessing) -> Samples:
    """Noise as the preprocessing takes it, the same every time: for timing, where there is no data."""
    random = np.random.default_rng(_SEED)
    if preprocessing.kind == "features":
        noise = random.standard_normal((EXAMPLES, preprocessing.width))
        if preprocessing.mean:
            noise = noise * preprocessing.std + preprocessing.mean
        return noise.astype(np.float32)
    shape = (EXAMPLES, preprocessing.height, preprocessing.width, preprocessing.channels)
    return random.integers(0, 256, shape, np.uint8)
