"""Running the command line inside the test process, and a small report to show."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import pytest

import compresslab
from compresslab.cli.app import invoke
from compresslab.measure.artifact import Artifact, GraphInfo, Manifest, TensorInfo
from compresslab.measure.budget import BudgetResult
from compresslab.measure.measurement import Estimate, Latency, Measurement, Versus
from compresslab.measure.preprocessing import ImagePreprocessing
from compresslab.report import Point, Report

PIPELINE = """\
task: {image_classification: {npz: images.npz}}
model: {residual: {widths: [8]}, weights: teacher.safetensors}
stages:
  - prune: {ratio: 0.5}
"""


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Ended]]:
    """`command("run", "x.yaml")` -> the exit code and what was written."""
    before = signal.getsignal(signal.SIGTERM)

    def run(*arguments: str) -> Ended:
        capsys.readouterr()
        code = invoke(arguments)
        written = capsys.readouterr()
        return Ended(code, written.out, written.err)

    yield run
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def pipeline_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A pipeline file in the working directory, which is an empty one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.yaml").write_text(PIPELINE, encoding="utf-8")
    return "x.yaml"


@pytest.fixture
def fake_runner(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Takes the runner's place; a test gives it `run` and `plan`."""
    module = ModuleType("compresslab.runner")
    monkeypatch.setitem(__import__("sys").modules, module.__name__, module)
    monkeypatch.setattr(compresslab, "runner", module, raising=False)
    return module


@pytest.fixture
def report() -> Report:
    baseline = _point("aaaa", ("baseline",), 2_000_000, None)
    speedup = Versus(Estimate(4.1, 4.0, 4.2), 8.0, Estimate(-0.012, -0.017, -0.007), "faster")
    pruned = _point("bbbb", ("baseline", "prune"), 250_000, speedup)
    return Report(
        pipeline="x",
        points=(replace(baseline, cached=True), pruned),
        frontier=("aaaa", "bbbb"),
        selected="bbbb",
        select="smallest",
        budget=BudgetResult("pass"),
        machine={"cpu": "a processor", "cores": 2},
        notes=("auto: calibration alone is within budget",),
    )


def _point(identity: str, lineage: Sequence[str], size: int, versus: Versus | None) -> Point:
    tensor = TensorInfo(name="input", dtype="float32", shape=("batch", 1, 28, 28))
    info = GraphInfo(file="model.onnx", sha256="0" * 64, bytes=size, opset=18, inputs=(tensor,), outputs=(tensor,))
    manifest = Manifest(
        graphs={"model": info},
        preprocessing=ImagePreprocessing(height=28, width=28, channels=1, mean=(0.3,), std=(0.3,)),
        labels=("a", "b"),
        params=500,
        macs=7000,
    )
    quality = Estimate(0.92, 0.91, 0.93, 1000)
    return Point(
        id=identity,
        stage=lineage[-1],
        lineage=tuple(lineage),
        cached=False,
        seconds=12.0,
        artifact=Artifact(Path("/nowhere"), {"model": Path("/nowhere/model.onnx")}, manifest),
        measurement=Measurement(
            quality={"validation": {"images/accuracy": quality}, "test": {"images/accuracy": quality}},
            latency=(
                Latency("model", 1, 1, "example", "default", "CPUExecutionProvider", 0.1, 0.12, None, 0.09, 0.11, 500),
            ),
            peak_rss_mb=41.0,
            machine={},
            versus_parent=versus,
            versus_baseline=versus,
        ),
    )
