"""One finished run on a tiny task, shared by all tests that look at what a run leaves or that start from its store."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# torch is imported where it is used: most tests do without.
if TYPE_CHECKING:
    from compresslab.pipeline import Pipeline
    from compresslab.report import Report


@dataclass(frozen=True)
class FinishedRun:
    """A run that has ended. Shared: a test that changes anything works on a copy, `copied_run`."""

    pipeline: Pipeline
    out: Path
    store: Path
    report: Report


@pytest.fixture(scope="session")
def stripes_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny task's data."""
    import numpy as np

    from compresslab.testing import stripes

    path = tmp_path_factory.mktemp("data") / "stripes.npz"
    np.savez(path, allow_pickle=False, **stripes())
    return path


@pytest.fixture(scope="session")
def trained_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of 10k parameters that knows the tiny task: `model` of the tiny pipeline."""
    from compresslab.distillation import Recipe, learn
    from compresslab.models import architecture
    from compresslab.testing import context, tiny_candidate, tiny_task

    folder = tmp_path_factory.mktemp("trained")
    network = tiny_candidate((16, 16)).network
    recipe = Recipe(epochs=4, batch=64, learning_rate=0.05, kd_weight=0.0, task_weight=1.0)
    learn(network.module, recipe, context(folder, tiny_task(folder)), "train")
    architecture.save(network, folder / "checkpoint")
    return folder / "checkpoint"


@pytest.fixture(scope="session")
def tiny_pipeline(stripes_file: Path, trained_checkpoint: Path) -> Pipeline:
    """All four stages and a reference: some seconds of training, and the least of measuring."""
    from compresslab import (
        BenchPoint,
        BenchSettings,
        Budget,
        Distill,
        ImageClassification,
        ModelSpec,
        Pipeline,
        Prune,
        Quantize,
        Residual,
        TaskSpec,
        Train,
    )  # fmt: skip
    from compresslab.data.augmentation import Augmentation
    from compresslab.distillation import Recipe

    data = ImageClassification(npz=str(stripes_file), name="stripes", augment=Augmentation(shift=1))
    student = ModelSpec(residual=Residual(widths=(8, 16)))
    once = BenchPoint()
    return Pipeline(
        name="tiny",
        task=TaskSpec(image_classification=data),
        model=ModelSpec(checkpoint=str(trained_checkpoint)),
        stages=[
            Train(epochs=3, batch=64, learning_rate=0.02),
            Distill(epochs=3, batch=64, learning_rate=0.05, views=2, student=student),
            Prune(ratio=0.3, round_to=4, recover=Recipe(epochs=2, batch=64, learning_rate=0.02)),
            Quantize(mode="qat", samples=24, qat=Recipe(epochs=1, batch=64, learning_rate=0.01, precision="fp32")),
        ],
        references=[Quantize(samples=24, backend="onnxruntime")],
        bench=BenchSettings(processes=1, min_seconds=0.02, min_count=20, warmup_seconds=0.02, points=(once,)),
        budget=Budget(accuracy=0.4),
    )


@pytest.fixture(scope="session")
def finished_run(tiny_pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """The tiny pipeline, run once for all tests."""
    from compresslab import run

    folder = tmp_path_factory.mktemp("runs")
    report = run(tiny_pipeline, folder / "tiny")
    return FinishedRun(tiny_pipeline, folder / "tiny", folder / ".store", report)


@pytest.fixture
def copied_run(finished_run: FinishedRun, tmp_path: Path) -> FinishedRun:
    """The finished run in folders that a test may damage."""
    out, store = tmp_path / "runs" / "tiny", tmp_path / "runs" / ".store"
    shutil.copytree(finished_run.out, out)
    shutil.copytree(finished_run.store, store)
    return FinishedRun(finished_run.pipeline, out, store, finished_run.report)


@pytest.fixture
def nothing_may_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trip-wire at everything that costs: whatever trains, exports or measures fails the test."""
    from compresslab.measure.measuring import Measurer

    def tripped(*_: object, **__: object) -> None:
        raise AssertionError("this should have come from the store")

    for place in ("distillation.learning.fit", "stages.mutual.fit", "stages.backends.export", "exports.export"):
        monkeypatch.setattr(f"compresslab.{place}", tripped)
    monkeypatch.setattr(Measurer, "measure", tripped)


@pytest.fixture(scope="session")
def as_yaml() -> Callable[[Pipeline, Path], Path]:
    """Writes a pipeline as a file that the command line reads."""
    import yaml

    from compresslab import dump_pipeline

    def write(pipeline: Pipeline, path: Path) -> Path:
        path.write_text(yaml.safe_dump(dump_pipeline(pipeline), sort_keys=False), encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="session")
def model_hashes() -> Callable[[Path], dict[str, str]]:
    """The SHA-256 of all weights and graphs of a run directory, by their place in it."""

    def hashes(out: Path) -> dict[str, str]:
        files = [*out.glob("stages/*/weights.safetensors"), *out.glob("stages/*/*.onnx"), *out.glob("selected/*.onnx")]
        return {str(file.relative_to(out)): sha256(file.read_bytes()).hexdigest() for file in files}

    return hashes
