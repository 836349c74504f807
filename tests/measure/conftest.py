from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compresslab.digest import digest_file
from compresslab.measure.artifact import Artifact, GraphInfo, Manifest, TensorInfo, load_artifact, write_manifest
from compresslab.measure.evaluate import EvalSplit
from compresslab.measure.measurement import (
    ClassRetention,
    Estimate,
    Flip,
    Flips,
    IntegerOperators,
    Latency,
    Measurement,
    Retained,
    Versus,
)
from compresslab.measure.preprocessing import ImagePreprocessing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SIDE, CLASSES = 4, 3
PREPROCESSING = ImagePreprocessing(height=SIDE, width=SIDE, channels=1, mean=(0.5,), std=(0.25,))


def linear_onnx(weights: np.ndarray) -> onnx.ModelProto:
    """[batch, 1, 4, 4] -> flatten -> times weights [16, 3]: what it answers can be worked out by hand."""
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["x"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["y"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 1, SIDE, SIDE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", weights.shape[1]])],
        [numpy_helper.from_array(weights.astype(np.float32), "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def make_manifest(path: Path, **changes: object) -> Manifest:
    manifest = Manifest(
        graphs={
            "model": GraphInfo(
                file=path.name,
                sha256=digest_file(path),
                bytes=path.stat().st_size,
                opset=18,
                inputs=(TensorInfo(name="x", dtype="float32", shape=("batch", 1, SIDE, SIDE)),),
                outputs=(TensorInfo(name="y", dtype="float32", shape=("batch", CLASSES)),),
            )
        },
        preprocessing=PREPROCESSING,
        labels=("left", "middle", "right"),
        params=SIDE * SIDE * CLASSES,
        macs=SIDE * SIDE * CLASSES,
    )
    return manifest.model_copy(update=changes)


class MakeArtifact(Protocol):
    def __call__(self, name: str, weights: np.ndarray, **changes: object) -> Artifact: ...


@pytest.fixture
def make_artifact(tmp_path: Path) -> MakeArtifact:
    """An exported linear model in its own folder; `changes` replace fields of its manifest."""

    def make(name: str, weights: np.ndarray, **changes: object) -> Artifact:
        folder = tmp_path / name
        folder.mkdir()
        onnx.save(linear_onnx(weights), folder / "model.onnx")
        write_manifest(folder, make_manifest(folder / "model.onnx", **changes))
        return load_artifact(folder)

    return make


@pytest.fixture
def make_splits() -> Callable[[int, int], tuple[EvalSplit, EvalSplit]]:
    """Images that are white in the target's column and black elsewhere, as `validation` and `test`."""

    def make(validation: int, test: int) -> tuple[EvalSplit, EvalSplit]:
        rng = np.random.default_rng(0)
        made = []
        for name, count in (("validation", validation), ("test", test)):
            targets = rng.integers(0, CLASSES, count)
            images = np.zeros((count, SIDE, SIDE, 1), np.uint8)
            images[np.arange(count), :, targets] = 255
            made.append(EvalSplit(name, images, targets))
        return made[0], made[1]

    return make


@pytest.fixture
def right() -> np.ndarray:
    """Weights [16, 3] that sum the pixels of each column: right on all of `make_splits`."""
    weights = np.zeros((SIDE, SIDE, CLASSES))
    for column in range(CLASSES):
        weights[:, column, column] = 1.0
    return weights.reshape(-1, CLASSES)


@pytest.fixture
def wrong_on_2(right: np.ndarray) -> np.ndarray:
    """Weights that are right on targets 0 and 1, and answer 0 for 2."""
    weights = right.copy()
    weights[:, 2] = weights[:, 0] + weights[:, 1]
    return weights


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """The manifest of a linear model."""
    path = tmp_path / "described.onnx"
    path.write_bytes(b"any")
    return make_manifest(path)


@pytest.fixture
def make_measurement() -> Callable[..., Measurement]:
    """A measurement in which everything is present; `changes` replace its fields."""

    def make(**changes: object) -> Measurement:
        versus = Versus(Estimate(4.0, 3.9, 4.1), 10.0, Estimate(-0.01, -0.015, -0.005, 10000), "faster", ("why not",))
        change = Estimate(-0.1, -0.15, -0.05, 300)
        kept = Retained(
            "test", 10000, 3, 1, 0,
            (ClassRetention("left", 300, 0.9, 0.8, change, 1e-5, "lost", 32, 2, 1),),
            Flips(40, 12, 5, (Flip("left", "right", 33, 30, 2),)),
        )  # fmt: skip
        measurement = Measurement(
            quality={
                "validation": {"toy/accuracy": Estimate(0.92, 0.91, 0.93, 5000)},
                "test": {"toy/accuracy": Estimate(0.1 + 0.2, 0.25, 0.35, 10000)},
            },
            latency=(
                Latency("model", 1, 1, "example", "default", "CPUExecutionProvider", 0.11, 0.12, None, 0.109, 0.112,
                        500, 0.118, 0.125),
                Latency("model", 8, 1, "example", "default", "CPUExecutionProvider", 0.8, 0.9, 1.0, 0.79, 0.81, 2000,
                        0.88, 0.92, 0.95, 1.2),
            ),
            peak_rss_mb=61.7,
            machine={"cpu": "a CPU", "isa": ["avx2"], "cores": 2, "cpu_limit": None},
            retention={"toy/accuracy": Estimate(0.98, 0.975, 0.985, 10000)},
            agreement_with_teacher=0.94,
            agreement_with_parent=0.99,
            integer_operators=IntegerOperators(9, 8, ("last: Gemm: no integer kernel",)),
            versus_parent=versus,
            versus_baseline=versus,
            validation_delta=Estimate(-0.01, -0.014, -0.006, 5000),
            validation_retention={"toy/accuracy": Estimate(0.985, 0.98, 0.99, 5000)},
            retention_by_class={"toy": kept},
            versus_control=Estimate(0.0042, -0.001, 0.009, 10000),
        )  # fmt: skip
        return replace(measurement, **changes)

    return make
