from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from pydantic import ValidationError

from compresslab.digest import digest_file
from compresslab.errors import ArtifactError, BenchmarkFailed, DataError
from compresslab.measure import bench
from compresslab.measure.artifact import GraphInfo, load_artifact, write_manifest
from compresslab.measure.bench import BenchPoint, BenchSettings, interleaved, peak_rss_mb, serving
from compresslab.measure.latency import summarise
from compresslab.measure.session import SessionOptions, open_session
from compresslab.measure.subject import subject_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from compresslab.measure.artifact import Artifact

    MakeArtifact = Callable[..., Artifact]

QUICK = BenchSettings(min_seconds=0.01, min_count=40, processes=2, warmup_seconds=0.01)
EXAMPLES = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 1), dtype=np.uint8)


def test_real_models_are_measured_at_every_point(make_artifact: MakeArtifact, right: np.ndarray) -> None:
    """Batch 8 from five examples, too: they are repeated."""
    artifacts = [make_artifact("one", right), make_artifact("two", right * 2)]
    measured = interleaved(artifacts, EXAMPLES, QUICK)
    assert len(measured) == 2
    for point in measured:
        assert len(point) == 2
        for samples in point:
            assert len(samples.processes) == 2
            assert samples.count >= 40
            assert min(process.min() for process in samples.processes) > 0
        rounds = [[len(process) for process in samples.processes] for samples in point]
        assert rounds[0] == rounds[1], "the two were not interleaved"


def test_samples_go_to_their_own_model_though_processes_change_the_order(
    make_artifact: MakeArtifact, right: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifacts = [make_artifact(str(number), right * number) for number in range(1, 4)]
    first: list[str] = []

    def pretend(job: Any, _: object) -> dict[str, np.ndarray]:
        first.append(job["models"][0]["graphs"]["model"])
        return {
            f"point{point}_model{place}": np.full((4, 2), int(model["graphs"]["model"].split("/")[-2]))
            for point in range(2)
            for place, model in enumerate(job["models"])
        }

    monkeypatch.setattr(bench, "_in_fresh_process", pretend)
    settings = QUICK.model_copy(update={"processes": 3})
    for point in interleaved(artifacts, EXAMPLES, settings):
        for number, samples in enumerate(point, start=1):
            assert all((process == number).all() for process in samples.processes)
    assert len(set(first)) == 3, "every process began with the same model"


def test_time_and_count_are_shared_out_over_the_processes(
    make_artifact: MakeArtifact, right: np.ndarray, tmp_path: Path
) -> None:
    settings = BenchSettings(min_seconds=0.6, min_count=100, max_seconds=9.0, processes=3)
    subject = subject_of(make_artifact("one", right), EXAMPLES, settings.largest_batch)
    job = bench._job("latency", [subject], settings, tmp_path)
    assert (job["min_seconds"], job["min_count"], job["max_seconds"]) == pytest.approx((0.2, 34, 3.0))


def test_inputs_are_the_preprocessed_examples(make_artifact: MakeArtifact, right: np.ndarray, tmp_path: Path) -> None:
    artifact = make_artifact("one", right)
    job = bench._job("latency", [subject_of(artifact, EXAMPLES, 8)], QUICK, tmp_path)
    inputs = np.load(job["models"][0]["inputs"]["model"]["example"], allow_pickle=False)["input:x"]
    np.testing.assert_array_equal(inputs[:5], artifact.manifest.preprocessing.normalize(EXAMPLES))
    assert len(inputs) >= 32


@pytest.fixture
def hungry(make_artifact: MakeArtifact, right: np.ndarray) -> Artifact:
    """A model that makes 160 MB of zeros in passing."""
    artifact = make_artifact("hungry", right)
    path = artifact.graphs["model"]
    model = onnx.load(path)
    model.graph.initializer.append(numpy_helper.from_array(np.array([40_000_000], np.int64), "size"))
    zero = helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0])
    model.graph.node.extend(
        [
            helper.make_node("ConstantOfShape", ["size"], ["zeros"], value=zero),
            helper.make_node("ReduceMax", ["zeros"], ["nothing"], keepdims=0),
            helper.make_node("Mul", ["y", "nothing"], ["z"]),
            helper.make_node("Add", ["y", "z"], ["sum"]),
        ]
    )
    model.graph.output[0].name = "sum"
    onnx.save(model, path)
    old = artifact.manifest.graphs["model"]
    new = GraphInfo(**{**dict(old), "sha256": digest_file(path), "bytes": path.stat().st_size})
    basic = artifact.manifest.session.model_copy(update={"graph_optimization": "disabled"})
    changed = artifact.manifest.model_copy(update={"graphs": {"model": new}, "session": basic})
    write_manifest(artifact.folder, changed)
    return load_artifact(artifact.folder)


def test_peak_memory_is_the_models_own(make_artifact: MakeArtifact, right: np.ndarray, hungry: Artifact) -> None:
    """Not that of the process that started it, which here has 320 MB: getrusage would report it."""
    ballast = np.ones(40_000_000)
    small = peak_rss_mb(make_artifact("small", right), EXAMPLES, QUICK)
    assert 10.0 < small < 250.0
    assert peak_rss_mb(hungry, EXAMPLES, QUICK) > small + 120.0
    assert ballast[0] == 1.0


def test_a_worker_that_dies_is_told_with_its_last_words(make_artifact: MakeArtifact, right: np.ndarray) -> None:
    artifact = make_artifact("cut", right)
    path = artifact.graphs["model"]
    path.write_bytes(path.read_bytes()[:50])
    message = r"measured .*cut/model\.onnx died \(exit code 1\); its last words: .*ArtifactError.* cannot open it"
    with pytest.raises(BenchmarkFailed, match=f"(?s){message}"):
        interleaved([artifact], EXAMPLES, QUICK)


def test_a_worker_that_is_killed_is_told_by_which_signal(
    make_artifact: MakeArtifact, right: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nkill -{int(signal.SIGKILL)} $$\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(BenchmarkFailed, match=r"died \(SIGKILL, perhaps out of memory\); its last words: none"):
        peak_rss_mb(make_artifact("one", right), EXAMPLES, QUICK)


def test_the_working_directory_cannot_shadow_a_library(
    make_artifact: MakeArtifact, right: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit('the wrong numpy')")
    monkeypatch.chdir(tmp_path)
    assert peak_rss_mb(make_artifact("one", right), EXAMPLES, QUICK) > 0.0


def test_a_graph_that_is_not_there_and_no_examples_are_refused(make_artifact: MakeArtifact, right: np.ndarray) -> None:
    artifact = make_artifact("one", right)
    text = BenchSettings(points=(BenchPoint(graph="text"),))
    with pytest.raises(ArtifactError, match="bench names the graph `text`, but it has model"):
        interleaved([artifact], EXAMPLES, text)
    with pytest.raises(DataError, match="there are no examples to measure with"):
        interleaved([artifact], EXAMPLES[:0], QUICK)


def test_settings_come_from_plain_data_and_go_back() -> None:
    plain = {"points": [{"batch": 1, "threads": 2}], "processes": 5}
    settings = BenchSettings.model_validate(plain)
    assert settings.points == (BenchPoint(threads=2),)
    assert BenchSettings.model_validate(settings.model_dump(mode="json")) == settings
    assert [point.batch for point in BenchSettings().points] == [1, 8]


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ({"points": []}, "at least 1 item"),
        ({"points": [{"batch": 0}]}, "greater than or equal to 1"),
        ({"points": [{"inputs": 3}]}, "Input should be a valid string"),
        ({"processes": 0}, "greater than or equal to 1"),
        ({"min_second": 1}, "Extra inputs are not permitted"),
    ],
)
def test_settings_that_make_no_sense_are_refused(plain: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        BenchSettings.model_validate(plain)


def test_a_serving_process_tells_how_long_it_took_to_be_ready(make_artifact: MakeArtifact, right: np.ndarray) -> None:
    found = serving(subject_of(make_artifact("one", right), EXAMPLES, 1), QUICK)
    assert min(found.load_ms, found.first_ms, found.peak_rss_mb) > 0.0
    assert found.first_ms < 1000.0


def test_io_binding_is_measured_and_named(make_artifact: MakeArtifact, right: np.ndarray) -> None:
    point = BenchPoint(io_binding=True)
    settings = QUICK.model_copy(update={"points": (point,)})
    artifact = make_artifact("one", right)
    ((samples,),) = interleaved([artifact], EXAMPLES, settings)
    assert summarise(samples, point, artifact.manifest.session).session == "default io_binding=True"


def test_a_provider_that_is_not_there_is_refused_not_replaced(make_artifact: MakeArtifact, right: np.ndarray) -> None:
    """ONNX Runtime would only warn, and run on the CPU."""
    session = SessionOptions(provider="ImaginaryExecutionProvider")
    artifact = make_artifact("one", right, session=session)
    with pytest.raises(ArtifactError, match=r"has no ImaginaryExecutionProvider, but .*CPUExecutionProvider; install"):
        open_session(artifact.graphs["model"], session, 1)
