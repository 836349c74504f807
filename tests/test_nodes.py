"""Nodes: one entry of the store for each application of a stage, whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from compresslab.candidate import Candidate, OnnxModel, Step, TorchModel
from compresslab.digest import digest_file, digest_of
from compresslab.errors import ParityError
from compresslab.measure.artifact import Artifact, GraphInfo, Manifest, load_artifact, write_manifest
from compresslab.measure.preprocessing import ImagePreprocessing
from compresslab.models import architecture
from compresslab.nodes import Made, Nodes
from compresslab.store import Store
from compresslab.testing import tiny_candidate

KEY = digest_of(["one application of a stage"])


def export(candidate: Candidate, folder: Path) -> Artifact:
    """Stands for the exporter: nodes look at nothing but hashes."""
    path = folder / "model.onnx"
    content = candidate.model.path.read_bytes() if isinstance(candidate.model, OnnxModel) else candidate.digest.encode()
    path.write_bytes(content)
    info = GraphInfo(file=path.name, sha256=digest_file(path), bytes=len(content), opset=18, inputs=(), outputs=())
    preprocessing = ImagePreprocessing(height=12, width=12, channels=1, mean=(0.5,), std=(0.5,))
    write_manifest(folder, Manifest(graphs={"model": info}, preprocessing=preprocessing, labels=(), params=1, macs=1))
    return load_artifact(folder)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def nodes(store: Store) -> Nodes:
    return Nodes(store, export)


def made(*candidates: Candidate, notes: tuple[str, ...] = ()):
    """A `make` that counts its calls in `made.calls`."""

    def make(scratch: Path) -> Made:
        make.calls.append(scratch)
        return Made(candidates, notes)

    make.calls = []
    return make


def step(attempt: int = 0) -> Step:
    return Step("prune", {"ratio": 0.5}, {"loss": [0.25]}, digest_of([KEY, attempt]))


def test_made_once_and_then_read(nodes: Nodes) -> None:
    start = tiny_candidate()
    pruned = start.then(start.network, step())
    make = made(pruned, notes=("look here",))
    assert nodes.find(KEY) is None
    (first,) = nodes.obtain(KEY, make)
    assert [(node.digest, node.cached) for node in nodes.find(KEY) or ()] == [(first.digest, False)]
    assert not first.cached
    (second,) = Nodes(nodes._store, export).obtain(KEY, make)
    assert second.cached
    assert len(make.calls) == 1
    assert (second.lineage, second.seconds, second.notes) == (first.lineage, first.seconds, ("look here",))
    assert second.lineage == pruned.lineage
    assert (second.kind, second.digest) == ("prune", pruned.digest)
    assert second.artifact().sha256 == first.artifact().sha256


def test_what_this_run_made_is_not_called_cached_later_in_it(nodes: Nodes) -> None:
    """A stage that two branches share is asked for twice."""
    make = made(tiny_candidate())
    assert [nodes.obtain(KEY, make)[0].cached for _ in range(2)] == [False, False]
    assert len(make.calls) == 1


def test_a_network_comes_back_with_its_weights(nodes: Nodes) -> None:
    start = tiny_candidate()
    (node,) = nodes.obtain(KEY, made(start))
    assert architecture.digest(node.candidate().network) == architecture.digest(start.network)


def test_a_graph_and_a_converted_network_come_back_as_graphs(nodes: Nodes, tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"a graph")
    start = tiny_candidate()
    graph = start.then(OnnxModel(tmp_path / "x.onnx"), step(0))
    converted = start.then(TorchModel(start.network.module, None), step(1))
    first, second = nodes.obtain(KEY, made(graph, converted))
    for node in (first, second):
        model = node.candidate().model
        assert isinstance(model, OnnxModel)
        assert model.path == node.artifact().graphs["model"]
        assert not (node.folder / architecture.WEIGHTS).exists()
    assert first.artifact().graphs["model"].read_bytes() == b"a graph"


def test_several_candidates_keep_their_order(nodes: Nodes) -> None:
    start = tiny_candidate()
    attempts = [start.then(start.network, step(attempt)) for attempt in range(3)]
    assert [node.digest for node in nodes.obtain(KEY, made(*attempts))] == [one.digest for one in attempts]


def test_a_failure_leaves_no_entry_and_keeps_the_scratch(nodes: Nodes, store: Store) -> None:
    def make(scratch: Path) -> Made:
        (scratch / "train.checkpoint").write_bytes(b"epoch 3")
        raise ParityError("disagree")

    with pytest.raises(ParityError, match="disagree"):
        nodes.obtain(KEY, make)
    assert nodes.find(KEY) is None
    assert store.entries() == ()
    assert (store.scratch("stage", KEY) / "train.checkpoint").read_bytes() == b"epoch 3"


def test_a_failing_export_leaves_no_entry(store: Store) -> None:
    """The second candidate's export fails when the first one's artifact is written already."""
    start = tiny_candidate()

    def fails(candidate: Candidate, folder: Path) -> Artifact:
        if candidate.lineage[-1].digest == step(1).digest:
            raise ParityError("disagree")
        return export(candidate, folder)

    attempts = [start.then(start.network, step(attempt)) for attempt in range(2)]
    with pytest.raises(ParityError, match="disagree"):
        Nodes(store, fails).obtain(KEY, made(*attempts))
    assert store.entries() == ()


def test_scratch_goes_when_the_entry_is_there(nodes: Nodes, store: Store) -> None:
    make = made(tiny_candidate())
    nodes.obtain(KEY, make)
    assert not make.calls[0].exists()


def test_fresh_makes_everything_once_more_and_forgets_checkpoints(nodes: Nodes, store: Store) -> None:
    first = nodes.obtain(KEY, made(tiny_candidate()))
    (store.scratch("stage", KEY) / "train.checkpoint").write_bytes(b"old")
    seen = []

    def make(scratch: Path) -> Made:
        seen.append(list(scratch.iterdir()))
        return Made((tiny_candidate(),))

    again = Nodes(Store(store.root, fresh=True), export)
    for _ in range(2):
        assert [node.cached for node in again.obtain(KEY, make)] == [False]
    assert seen == [[]], "made once, and with an empty scratch folder"
    assert again.obtain(KEY, make)[0].digest == first[0].digest


def test_a_damaged_entry_is_told_and_made_again(tmp_path: Path) -> None:
    told: list[str] = []
    nodes = Nodes(Store(tmp_path / "store", told.append), export)
    make = made(tiny_candidate())
    (node,) = nodes.obtain(KEY, make)
    weights = node.folder / architecture.WEIGHTS
    content = np.fromfile(weights, np.uint8)
    content[-5] ^= 1
    content.tofile(weights)
    nodes.obtain(KEY, make)
    assert len(make.calls) == 2
    assert "was damaged (0/weights.safetensors does not have the bytes that were written)" in told[0]


def test_the_record_is_plain_json(nodes: Nodes) -> None:
    start = tiny_candidate()
    (node,) = nodes.obtain(KEY, made(start.then(start.network, step()), notes=("a",)))
    record = json.loads((node.folder.parent / "candidates.json").read_text())
    assert record["notes"] == ["a"]
    assert [entry["kind"] for entry in record["lineages"][0]] == ["baseline", "prune"]
