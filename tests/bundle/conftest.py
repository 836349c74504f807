"""A run of two points whose models are real ONNX files: a linear classifier, and one that is smaller."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compresslab.digest import digest_file
from compresslab.measure.artifact import Artifact, GraphInfo, Manifest, TensorInfo, load_artifact, write_manifest
from compresslab.measure.budget import BudgetResult
from compresslab.measure.measurement import Estimate, IntegerOperators, Latency, Measurement, Parity, Versus
from compresslab.measure.preprocessing import ImagePreprocessing
from compresslab.measure.session import SessionOptions
from compresslab.report import Point, Report

LABELS = ("ankle boot", "bag | tote", "coat")
GREY = ImagePreprocessing(height=6, width=5, channels=1, mean=(0.3,), std=(0.25,))
COLOUR = ImagePreprocessing(
    height=6, width=5, channels=3, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3), resize="bicubic", crop=0.8
)


def write_model(path: Path, channels: int, seed: int) -> None:
    """scores = flatten(input) @ weight, on [n, channels, 6, 5]."""
    weight = np.random.default_rng(seed).normal(size=(channels * 30, len(LABELS))).astype(np.float32)
    shape = ["batch", channels, 6, 5]
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["pixels"], ["flat"]), helper.make_node("MatMul", ["flat", "weight"], ["scores"])],
        "linear",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", len(LABELS)])],
        [numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, path)


def write_artifact(folder: Path, preprocessing: ImagePreprocessing, session: SessionOptions, seed: int) -> Artifact:
    folder.mkdir(parents=True)
    path = folder / "model.onnx"
    write_model(path, preprocessing.channels, seed)
    pixels = TensorInfo(name="pixels", dtype="float32", shape=("batch", preprocessing.channels, 6, 5))
    scores = TensorInfo(name="scores", dtype="float32", shape=("batch", len(LABELS)))
    size = path.stat().st_size
    graph = GraphInfo(
        file="model.onnx", sha256=digest_file(path), bytes=size, opset=18, inputs=(pixels,), outputs=(scores,)
    )
    manifest = Manifest(
        graphs={"model": graph},
        preprocessing=preprocessing,
        labels=LABELS,
        session=session,
        params=90,
        macs=90,
        parity=Parity(2e-6, 64),
        provenance={"seed": 7, "versions": {"torch": "2.13.0"}},
    )
    write_manifest(folder, manifest)
    return load_artifact(folder)


def measurement(versus: Versus | None) -> Measurement:
    shape = ("model", 1, 1, "example", "default", "CPUExecutionProvider")
    return Measurement(
        quality={
            "validation": {"boots/accuracy": Estimate(0.905, 0.88, 0.93, 500)},
            "test": {"boots/accuracy": Estimate(0.9, 0.88, 0.92, 1000)},
        },
        latency=(Latency(*shape, 0.05, 0.06, None, 0.049, 0.051, 900),),
        peak_rss_mb=33.0,
        machine={},
        retention={} if versus is None else {"boots/accuracy": Estimate(0.99, 0.97, 1.01)},
        agreement_with_teacher=None if versus is None else 0.97,
        integer_operators=IntegerOperators(1, 1),
        versus_parent=versus,
        versus_baseline=versus,
    )


@pytest.fixture
def make_report(tmp_path: Path) -> Callable[..., Report]:
    """A report whose second point, `b2`, is selected; its artifacts lie in `stages/`."""

    def make(preprocessing: ImagePreprocessing = GREY, session: SessionOptions = SessionOptions()) -> Report:  # noqa: B008
        stages = tmp_path / "run" / "stages"
        versus = Versus(Estimate(4.0, 3.9, 4.1), 8.0, Estimate(-0.01, -0.02, 0.0), "faster")
        base = Point(
            "a1", "baseline", ("baseline",), True, 0.1, write_artifact(stages / "a1", preprocessing, session, 1),
            measurement(None),
        )  # fmt: skip
        small = Point(
            "b2", "distill", ("baseline", "distill"), False, 60.0,
            write_artifact(stages / "b2", preprocessing, session, 2), measurement(versus),
            settings={"epochs": 16, "temperature": 4.0}, decisions={"kept": "last"},
        )  # fmt: skip
        machine = {"cpu": "AMD EPYC", "cores": 2, "onnxruntime": "1.32.0"}
        return Report("boots", (base, small), ("b2",), "b2", "smallest", BudgetResult("pass"), machine)

    return make
