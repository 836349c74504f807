"""What a MODEL_OR_RUN on the command line stands for."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from compresslab.errors import ArtifactError, BadInput

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from compresslab.measure.artifact import Artifact, TensorInfo
    from compresslab.measure.preprocessing import Samples
    from compresslab.measure.session import SessionOptions
    from compresslab.measure.subject import Subject
    from compresslab.measure.tower_samples import TowerSamples
    from compresslab.report.schema import Results

_RESULTS = "results.json"
_MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Target:
    """A model to measure: one of ours, with a manifest, or any ONNX file; and the run that it comes from, if any."""

    name: str
    artifact: Artifact | None
    file: Path | None
    run: Path | None = None
    point: str | None = None
    """Its id in the run."""

    @property
    def bytes(self) -> int:
        """Size of its ONNX files."""
        if self.artifact is not None:
            return self.artifact.bytes
        assert self.file is not None
        return self.file.stat().st_size

    @property
    def session(self) -> SessionOptions:
        """How it says it is to be opened."""
        from compresslab.measure.session import SessionOptions

        return SessionOptions() if self.artifact is None else self.artifact.manifest.session

    @property
    def graphs(self) -> tuple[str, ...]:
        """The names of its graphs."""
        from compresslab.measure.onnx_file import GRAPH

        return (GRAPH,) if self.artifact is None else tuple(self.artifact.graphs)

    def only(self, graph: str) -> Target:
        """One of its graphs, as if there were no other; a bare file is one, by whatever name.

        Raises:
            ArtifactError: There is no such graph.
        """
        if self.artifact is None:
            return self
        if graph not in self.graphs:
            raise ArtifactError(f"{self.name}: there is no graph `{graph}`; it has {', '.join(self.graphs)}")
        return replace(self, artifact=self.artifact.only(graph))

    def inputs(self, graph: str, session: SessionOptions | None = None) -> tuple[TensorInfo, ...]:
        """What a graph takes, by ONNX Runtime: a file that it cannot run, or not so, is found out here.

        Raises:
            ArtifactError: The file is broken, or there is no such graph.
        """
        from compresslab.measure.onnx_file import signature

        one = self.only(graph)
        path = one.file if one.artifact is None else one.artifact.graphs[graph]
        assert path is not None, "what is no artifact is a file"
        return signature(path, session or self.session)


def resolve(path: Path) -> Target:
    """What a path on the command line means: a run's selected model, an exported model's folder, or an ONNX file.

    Raises:
        BadInput: It is none of them; recorded figures are refused, for latencies compare only where they were
            measured.
    """
    from compresslab.measure.artifact import load_artifact

    if path.suffix == ".json" and path.name != _MANIFEST and path.is_file():
        raise _recorded(path)
    if path.is_dir() and (path / _RESULTS).is_file():
        return _selected(path)
    if path.suffix == ".onnx" and not (path.is_file() and _is_ours(path)):
        if not path.is_file():
            raise ArtifactError(f"{path}: no such file; give an .onnx file, an exported model's folder or a run folder")
        return Target(str(path), None, path)
    return Target(str(path), load_artifact(path), None)


def run_baseline(target: Target) -> Target | None:
    """The baseline of the run that a model comes from; None where it comes from none, or is it itself."""
    from compresslab.measure.artifact import load_artifact
    from compresslab.report.lineage import baseline
    from compresslab.report.results import load_results

    if target.run is None:
        return None
    point = baseline(load_results(target.run))
    if point["id"] == target.point:
        return None
    folder = target.run / "stages" / point["id"]
    return Target(f"{target.run} ({point['stage']})", load_artifact(folder), None, target.run, point["id"])


def common_graphs(targets: Sequence[Target]) -> tuple[str, ...]:
    """The graphs to measure of models side by side: all that they have; `model` where one is a bare file.

    Raises:
        ArtifactError: They do not have the same graphs, or a graph does not take the same tensors.
    """
    from compresslab.measure.onnx_file import GRAPH, require_same_inputs

    first = targets[0]
    bare = any(target.artifact is None for target in targets)
    for other in targets:
        if bare and len(other.graphs) > 1:
            raise ArtifactError(
                f"{other.name} has the graphs {', '.join(other.graphs)}, but a bare ONNX file beside it is one; name "
                "which it is to be compared with: `--graph NAME`, or `graph: NAME` in a budget"
            )
        if not bare and set(other.graphs) != set(first.graphs):
            raise ArtifactError(
                f"{first.name} has the graphs {', '.join(first.graphs)}, but {other.name} has "
                f"{', '.join(other.graphs)}; models compare graph by graph, so both must have the same"
            )
    for graph in first.graphs:
        ours = first.inputs(graph)
        for other in targets[1:]:
            theirs = other.inputs(other.graphs[0] if bare else graph)
            require_same_inputs(ours, theirs, (first.name, other.name))
    return (GRAPH,) if bare else first.graphs


def fed(target: Target, graphs: Sequence[str], *, data: bool) -> dict[str, str]:
    """What each graph is fed, as `BenchPoint.inputs` has it: texts of real data at the lengths that they have."""
    from compresslab.measure.subject import DATA, EXAMPLE

    if not data or target.artifact is None:
        return dict.fromkeys(graphs, EXAMPLE)
    manifest = target.artifact.manifest
    return {graph: DATA if manifest.preprocessing_of(graph).kind == "text" else EXAMPLE for graph in graphs}


def made_up_note(target: Target, graphs: Sequence[str]) -> list[str]:
    """What to say where texts are made up, as their lengths decide how long a call takes; empty of other samples."""
    if target.artifact is None:
        return []
    manifest = target.artifact.manifest
    if all(manifest.preprocessing_of(graph).kind != "text" for graph in graphs):
        return []
    return ["texts are made up, a dozen tokens each; --data FILE measures at the lengths that yours have"]


def subject(
    target: Target,
    name: str,
    batches: Sequence[int],
    *,
    inputs: Iterable[str] = ("example",),
    examples: Samples | TowerSamples | None = None,
    like: Target | None = None,
    dims: Mapping[str, int] | None = None,
    session: SessionOptions | None = None,
    bare: bool = False,
) -> Subject:
    """The model as a measuring process takes it.

    Args:
        target: The model.
        name: What to call it.
        batches: What it will be called with.
        inputs: What it will be fed, as `BenchPoint.inputs` has it.
        examples: Real samples, as its preprocessing takes them; made-up ones if None.
        like: The model beside it, whose texts it is given too where they are made up.
        dims: Sizes of the dynamic axes of a bare ONNX file.
        session: How to open it, if not as it says.
        bare: Whether to feed it made-up tensors though it has a manifest: the model beside it has none.

    Raises:
        BadInput: It cannot be fed.
    """
    from compresslab.measure.onnx_file import onnx_subject
    from compresslab.measure.subject import made_up_for, subject_of

    options = session or target.session
    if target.artifact is None or bare:
        path = target.file if target.artifact is None else next(iter(target.artifact.graphs.values()))
        assert path is not None
        return replace(onnx_subject(path, batches, dims or {}, options), name=name)
    _require_prepared(target)
    samples = made_up_for(target.artifact, None if like is None else like.artifact) if examples is None else examples
    wanted = dict.fromkeys(inputs, max(batches))
    return replace(subject_of(target.artifact, samples, wanted), name=name, session=options)


def _require_prepared(target: Target) -> None:
    """Refuses several graphs, one of which takes what nothing says how to make."""
    assert target.artifact is not None, "asked of artifacts"
    for graph in target.graphs if len(target.graphs) > 1 else ():
        if not target.artifact.manifest.prepares(graph):
            file = target.artifact.graphs[graph].name
            raise ArtifactError(
                f"{target.name}: the manifest does not say how samples become the inputs of the graph `{graph}`; name "
                f"another one by `--graph`, or copy {file} away from the manifest and give that, with `--dim`"
            )


def selected_id(results: Results, run: Path) -> str:
    """The id of a run's selected model.

    Raises:
        BadInput: The run selected none.
    """
    if results["selected"] is None:
        folders = ", ".join(f"stages/{point['id']}" for point in results["points"])
        raise BadInput(
            f"{run}: this run selected no model, as every one is over its budget; name one of its folders: {folders}"
        )
    return results["selected"]


def _selected(run: Path) -> Target:
    from compresslab.measure.artifact import load_artifact
    from compresslab.report.results import load_results

    point = selected_id(load_results(run), run)
    bundle, stage = run / "selected", run / "stages" / point
    return Target(str(run), load_artifact(bundle if (bundle / _MANIFEST).is_file() else stage), None, run, point)


def _is_ours(path: Path) -> bool:
    """Whether the manifest beside an ONNX file names it."""
    from compresslab.measure.artifact import load_artifact

    if not (path.parent / _MANIFEST).is_file():
        return False
    return path.name in {info.file for info in load_artifact(path.parent, verify=False).manifest.graphs.values()}


def _recorded(path: Path) -> BadInput:
    from compresslab.measure.machine import differences, fingerprint

    try:
        machine = json.loads(path.read_text(encoding="utf-8"))["machine"]
        found = "; ".join(differences(fingerprint(), machine))
    except (ValueError, KeyError, TypeError, AttributeError, OSError):
        found = ""
    where = f" on another machine ({found})" if found else ""
    return BadInput(
        f"{path}: figures that were recorded{where}, not a model; a latency compares only with what is measured beside "
        "it, here and now: give the model itself, or the folder of its run"
    )
