"""What a measuring process is given: a model's graphs, how they are opened, and what they are fed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from compresslab.errors import ArtifactError, DataError
from compresslab.measure.text_preprocessing import as_texts
from compresslab.measure.tower_samples import TowerSamples

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from compresslab.measure.artifact import Artifact
    from compresslab.measure.preprocessing import Preprocessing, Samples
    from compresslab.measure.session import SessionOptions
    from compresslab.measure.text_preprocessing import TextPreprocessing

# So many different examples are called in turn: kernels do not look at values, but caches and denormals do.
EXAMPLES = 32
# Of samples that are spread over a split, at least so many: as many lengths, where they are texts.
_SPREAD = 128
_SEED = 0
EXAMPLE, DATA = "example", "data"
"""What a point of the bench may name as its inputs, beside the task's sets of samples."""

SampleSets: TypeAlias = "Mapping[str, Samples]"
"""Samples by name, as the task's preprocessing takes them."""
NO_SETS: SampleSets = {}
_WORDS = 12


@dataclass(frozen=True)
class Subject:
    """A model to measure.

    Attributes:
        name: What to call it.
        graphs: The ONNX file of each graph.
        session: How they are opened.
        inputs: By graph and input name, arrays [n, ...] that batches are cut from; n is a multiple of every batch, or
            larger than it. An array without axes is fed as it is.
        others: The same made from other samples, by their name; what is not there is fed `inputs`.
        padding: What texts are filled up with, which is cut where a batch needs less of it; None of other samples.
    """

    name: str
    graphs: Mapping[str, Path]
    session: SessionOptions
    inputs: Mapping[str, Mapping[str, npt.NDArray[Any]]]
    others: Mapping[str, Mapping[str, Mapping[str, npt.NDArray[Any]]]] = field(default_factory=dict)
    padding: int | None = None

    def fed(self, graph: str, samples: str) -> Mapping[str, npt.NDArray[Any]]:
        """The inputs of a graph, made from the samples of this name."""
        return self.others.get(samples, self.inputs)[graph]

    def file(self, graph: str) -> Path:
        """The ONNX file of a graph.

        Raises:
            ArtifactError: There is no such graph.
        """
        if graph not in self.graphs:
            raise ArtifactError(f"{self.name}: bench names the graph `{graph}`, but it has {', '.join(self.graphs)}")
        return self.graphs[graph]


def subject_of(
    artifact: Artifact, examples: Samples | TowerSamples, wanted: Mapping[str, int] | int, sets: SampleSets = NO_SETS
) -> Subject:
    """An artifact, fed with real examples [n, ...] as its preprocessing takes them; few are repeated.

    Of several towers each graph is fed with its own.

    Args:
        artifact: The model.
        examples: Of the validation split.
        wanted: What it is to be fed (`example`, `data`, or a name in `sets`), and the largest batch of each; a number
            alone is the largest batch of `example`.
        sets: Other samples by name.

    Raises:
        DataError: There are no examples, they are not what its preprocessing takes, or there is no such set.
    """
    if len(examples) == 0:
        raise DataError("there are no examples to measure with; give a validation split")
    largest: Mapping[str, int] = {EXAMPLE: wanted} if isinstance(wanted, int) else wanted
    manifest = artifact.manifest
    made: dict[str, dict[str, dict[str, npt.NDArray[Any]]]] = {}
    padding = None
    for name, batch in largest.items():
        made[name] = {}
        for graph, info in manifest.graphs.items():
            how = manifest.preprocessing_of(graph)
            own = examples.parts[graph] if isinstance(examples, TowerSamples) else examples
            prepared = how.graph_input(_chosen(name, own, batch, sets))
            made[name][graph] = {info.inputs[0].name: prepared}
            padding = how.pad_id if how.kind == "text" else padding
    first = next(iter(made.values()))
    return Subject(str(artifact.folder), artifact.graphs, manifest.session, first, made, padding)


def _chosen(name: str, examples: Samples, batch: int, sets: SampleSets) -> Samples:
    if name == EXAMPLE:
        return examples[np.arange(max(EXAMPLES, batch)) % len(examples)]
    samples = examples if name == DATA else sets.get(name)
    if samples is None or len(samples) == 0:
        found = ", ".join(f"`{one}`" for one in (EXAMPLE, DATA, *sets))
        raise DataError(f"`inputs: {name}` names no samples that are here; there are {found}")
    # Several batches, as texts differ in length; spread, as samples may lie in an order.
    count = batch * -(-_SPREAD // batch)
    return samples[np.linspace(0, len(samples) - 1, count).round().astype(np.int64)]


def made_up_for(artifact: Artifact, like: Artifact | None = None) -> Samples | TowerSamples:
    """Noise for every graph of an artifact, as `made_up_samples`.

    Texts are those of `like`'s tokenizer: two models that have their own are to be called with the same texts.
    """
    parts = {}
    for graph in artifact.graphs:
        how = artifact.manifest.preprocessing_of(graph)
        texts = how.kind == "text" and like is not None and graph in like.graphs
        parts[graph] = made_up_samples(like.manifest.preprocessing_of(graph) if texts and like is not None else how)
    return TowerSamples(parts) if len(parts) > 1 else next(iter(parts.values()))


def made_up_samples(preprocessing: Preprocessing) -> Samples:
    """Noise as the preprocessing takes it, the same every time: for timing, where there is no data.

    Texts are of tokens drawn from the tokenizer's.
    """
    random = np.random.default_rng(_SEED)
    if preprocessing.kind == "text":
        tokenizer = preprocessing.open_tokenizer()
        drawn = random.integers(0, preprocessing.vocabulary, (EXAMPLES, _WORDS)).tolist()
        # A vocabulary of few tokens may give nothing that can be read.
        made = (tokenizer.decode(row, skip_special_tokens=True) or "text" for row in drawn)
        return as_texts(made if preprocessing.truncate else (_read_whole(text, preprocessing) for text in made))
    if preprocessing.kind == "features":
        noise = random.standard_normal((EXAMPLES, preprocessing.width))
        if preprocessing.mean:
            noise = noise * preprocessing.std + preprocessing.mean
        return noise.astype(np.float32)
    shape = (EXAMPLES, preprocessing.height, preprocessing.width, preprocessing.channels)
    return random.integers(0, 256, shape, np.uint8)


def _read_whole(text: str, preprocessing: TextPreprocessing) -> str:
    """As much of it as is not refused for its length."""
    while len(text) > 1 and preprocessing.lengths(as_texts([text]))[0] > preprocessing.max_length:
        text = text[: len(text) // 2]
    return text
