"""Outputs on a split: an artifact's by ONNX Runtime, so that what is evaluated is what is served; or given ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from compresslab.errors import ArtifactError, BenchmarkFailed, DataError
from compresslab.measure.machine import usable_cores
from compresslab.measure.metric_names import label_of
from compresslab.measure.runtime import RUNTIME_ERRORS
from compresslab.measure.session import open_session
from compresslab.measure.tower_samples import TowerSamples

if TYPE_CHECKING:
    from collections.abc import Mapping

    from compresslab.measure.artifact import Artifact
    from compresslab.measure.preprocessing import Samples

_TEXTS = 32


@dataclass(frozen=True)
class EvalSplit:
    """Labelled examples: inputs [n, ...] as the preprocessing takes them (may be a memmap), and their targets [n].

    Targets are int64 class indices or group numbers, or float32 scores.
    """

    name: str
    inputs: Samples | TowerSamples
    targets: npt.NDArray[np.int64] | npt.NDArray[np.float32]


@dataclass(frozen=True)
class EvalBenchmark:
    """Labelled examples with a metric of their own, measured beside the task's splits; as `EvalSplit`."""

    name: str
    inputs: Samples | TowerSamples
    targets: npt.NDArray[np.int64] | npt.NDArray[np.float32]
    metric: str

    @property
    def key(self) -> str:
        """What results call its figure: `name/metric`."""
        return f"{self.name}/{label_of(self.metric)}"


@dataclass(frozen=True)
class Answers:
    """What a teacher that is no artifact answers: one that was given as arrays, or that is put together from several.

    Args:
        digest: Identifies what answers.
        outputs: By split, float32 [n, outputs] in the split's order: logits of the task's labels in their order,
            [n, 1] scores in the units of the targets, or embeddings. A split that is not there has no answers, and
            benchmarks have none.
    """

    digest: str
    outputs: Mapping[str, npt.NDArray[np.float32]]

    def on(self, split: str, samples: int) -> npt.NDArray[np.float32] | None:
        """The answers [samples, outputs] for a split; None where there are none.

        Raises:
            DataError: They are not one finite row a sample.
        """
        found = self.outputs.get(split)
        if found is None:
            return None
        if found.ndim != 2 or len(found) != samples:
            raise DataError(
                f"the teacher's answers on `{split}` must be [{samples}, outputs], one row for each of its samples, "
                f"but are {list(found.shape)}"
            )
        if not np.isfinite(found).all():
            raise DataError(f"some of the teacher's answers on `{split}` are NaN or infinite; leave those samples out")
        return found.astype(np.float32, copy=False)


def predict(artifact: Artifact, inputs: Samples | TowerSamples, batch: int = 256) -> npt.NDArray[np.float32]:
    """The outputs [n, outputs] for inputs [n, ...] as the artifact's preprocessing takes them, with all cores.

    Of several towers those of one graph follow those of the other.

    Raises:
        ArtifactError: The artifact is broken, has several graphs but the inputs are of one, or a graph does not take
            what its preprocessing gives.
        BenchmarkFailed: Some outputs are NaN or infinite.
        DataError: The inputs are not what the preprocessing takes.
    """
    if isinstance(inputs, TowerSamples):
        return _joined(artifact, {name: answers(artifact, name, part, batch) for name, part in inputs.parts.items()})
    if len(artifact.graphs) != 1:
        raise ArtifactError(
            f"{artifact.folder}: one graph is needed to answer, but it has {', '.join(artifact.graphs)}"
        )
    return answers(artifact, next(iter(artifact.graphs)), inputs, batch)


def _joined(artifact: Artifact, parts: Mapping[str, npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    widths = {name: part.shape[1] for name, part in parts.items()}
    if len(set(widths.values())) > 1:
        told = ", ".join(f"`{name}` {width}" for name, width in widths.items())
        raise ArtifactError(f"{artifact.folder}: its graphs must embed in one space, but their widths differ: {told}")
    return np.concatenate(list(parts.values()))


def answers(artifact: Artifact, graph: str, inputs: Samples, batch: int = 256) -> npt.NDArray[np.float32]:
    """As `predict`, of one of the artifact's graphs."""
    if graph not in artifact.graphs:
        raise ArtifactError(f"{artifact.folder}: there is no graph `{graph}`; it has {', '.join(artifact.graphs)}")
    path = artifact.graphs[graph]
    preprocessing = artifact.manifest.preprocessing_of(graph)
    session = open_session(path, artifact.manifest.session, usable_cores())
    name, output = session.get_inputs()[0].name, session.get_outputs()[0].name
    parts = []
    places = None
    if preprocessing.kind == "text":
        batch = min(batch, _TEXTS)
        inputs, places = _each_once(inputs)
    for start in range(0, len(inputs), batch):
        prepared = preprocessing.graph_input(inputs[start : start + batch])
        try:
            parts.append(session.run([output], {name: prepared})[0])
        except RUNTIME_ERRORS as error:
            raise ArtifactError(
                f"{path}: it does not run on {prepared.dtype} {list(prepared.shape)}, which its preprocessing gives "
                f"({error}); export the model again, with a dynamic batch"
            ) from error
    outputs = np.concatenate(parts) if parts else np.empty((0, 0), np.float32)
    if outputs.ndim != 2 or len(outputs) != len(inputs):
        raise ArtifactError(
            f"{path}: outputs must be [n, outputs], but {len(inputs)} inputs gave {list(outputs.shape)}"
        )
    if places is not None:
        outputs = outputs[places]
    broken = int((~np.isfinite(outputs)).any(axis=1).sum())
    if broken:
        raise BenchmarkFailed(
            f"{path}: {broken} of {len(outputs)} outputs are NaN or infinite; the weights or the quantization ranges "
            "are broken"
        )
    return outputs.astype(np.float32, copy=False)


def _each_once(texts: Samples) -> tuple[Samples, npt.NDArray[np.intp]]:
    """The different texts [m], and the place of each text [n] among them.

    Scored pairs have every text many times over. Those of a length stand together, so that little is padding.
    """
    distinct, numbers = np.unique(texts, return_inverse=True)
    order = np.argsort(np.strings.str_len(distinct), kind="stable")
    return distinct[order], np.argsort(order)[numbers]
