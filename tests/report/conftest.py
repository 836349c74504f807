"""A made-up report with everything in it; the figures are of the size that Fashion-MNIST gives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from compresslab.measure.artifact import Artifact, GraphInfo, Manifest, TensorInfo
from compresslab.measure.budget import BudgetResult
from compresslab.measure.measurement import (
    ClassRetention,
    Estimate,
    Fidelity,
    Flip,
    Flips,
    InFloat,
    IntegerOperators,
    Latency,
    Measurement,
    Parity,
    Retained,
    Verdict,
    Versus,
)
from compresslab.measure.preprocessing import ImagePreprocessing
from compresslab.report.html import html
from compresslab.report.report import Point, Report
from compresslab.report.results import results
from compresslab.report.schema import Results

METRIC = "fashion_mnist/accuracy"
MACHINE = {"cpu": "AMD EPYC", "isa": ["avx2", "avx512_vnni"], "cores": 2, "onnxruntime": "1.32.0"}


def estimate(value: float, half: float, n: int | None = None) -> Estimate:
    return Estimate(value, value - half, value + half, n)


def counted(integer: int, mode: str | None) -> IntegerOperators:
    """Where calibration alone was tried, two operators are left in float."""
    if mode != "ptq" or integer == 18:
        return IntegerOperators(integer, integer)
    left = (
        InFloat("stem.conv", "Conv", "its weights are float", 0.0312),
        InFloat("add_1", "Add", "its input comes from Sigmoid in float", 0.1205),
    )
    lines = tuple(f"{one.name} ({one.kind}): {one.reason}" for one in left)
    time = {"integer": 0.61, "conversions": 0.09, "float": 0.3}
    return IntegerOperators(integer + 2, integer, lines, left, time)


def artifact(size: int, params: int, macs: int, mode: str | None = None) -> Artifact:
    info = GraphInfo(
        file="model.onnx",
        sha256=f"{size:064x}",
        bytes=size,
        opset=18,
        inputs=(TensorInfo(name="input", dtype="float32", shape=("batch", 1, 28, 28)),),
        outputs=(TensorInfo(name="output", dtype="float32", shape=("batch", 10)),),
    )
    manifest = Manifest(
        graphs={"model": info},
        preprocessing=ImagePreprocessing(height=28, width=28, channels=1, mean=(0.286,), std=(0.353,)),
        labels=tuple(f"label {index}" for index in range(10)),
        params=params,
        macs=macs,
        parity=Parity(3e-6, 512),
        fidelity=Fidelity("accuracy", 0.932, 0.929, 0.996, 0.011, 512) if mode else None,
    )
    folder = Path("/nowhere") / f"{size}"
    return Artifact(folder, {"model": folder / "model.onnx"}, manifest)


def latency(p50: float, batch: int) -> Latency:
    shape = ("model", batch, 1, "example", "default", "CPUExecutionProvider")
    return Latency(*shape, p50, p50 * 1.08, None, p50 * 0.985, p50 * 1.015, 2000)


def kept(lost: bool) -> Retained:
    """Two classes against the teacher, of which the first may be lost."""
    first = ClassRetention("shirt", 1000, 0.82, 0.78, estimate(-0.04, 0.02), 0.00042 if lost else 0.07,
                           "lost" if lost else "unclear", 61, 21, 34)  # fmt: skip
    second = ClassRetention("bag", 1000, 0.985, 0.986, estimate(0.001, 0.006), 1.0, "unclear", 4, 5, 1)
    flips = Flips(265, 164, 88, (Flip("shirt", "T-shirt", 40, 31, 7), Flip("T-shirt", "shirt", 33, 12, 18)))
    return Retained("test", 10000, 10, int(lost), 0, (first, second), flips)


def point(
    identity: str,
    lineage: str,
    size: int,
    params: int,
    quality: float,
    p50: float,
    *,
    parent: tuple[int, float, float] | None = None,
    verdict: Verdict = "faster",
    why: tuple[str, ...] = (),
    mode: str | None = None,
    reference: bool = False,
    integer: int = 0,
) -> Point:
    """`parent` is the size, the accuracy and the latency of the model before."""
    base_size, base_quality, base_p50 = 2_828_000, 0.9367, 0.64

    def versus(other_size: int, other_quality: float, other_p50: float) -> Versus:
        speedup = other_p50 / p50
        interval = Estimate(speedup, speedup * 0.98, speedup * 1.02)
        return Versus(interval, other_size / size, estimate(quality - other_quality, 0.003), verdict, why)

    steps = tuple(lineage.split())
    return Point(
        id=identity,
        stage=steps[-1],
        lineage=steps,
        cached=identity == "a000",
        seconds=81.2,
        artifact=artifact(size, params, params * 70, mode),
        measurement=Measurement(
            quality={
                "validation": {METRIC: estimate(quality + 0.001, 0.008, 5000)},
                "test": {METRIC: estimate(quality, 0.005, 10000)},
            },
            latency=(latency(p50, 1), latency(p50 * 6, 8)),
            peak_rss_mb=41.0,
            machine=MACHINE,
            retention={} if parent is None else {METRIC: estimate(quality / base_quality, 0.004)},
            agreement_with_teacher=None if parent is None else 0.941,
            agreement_with_parent=None if parent is None else 0.998,
            integer_operators=counted(integer, mode),
            retention_by_class={} if parent is None else {"fashion_mnist": kept(quality < 0.93)},
            versus_parent=None if parent is None else versus(*parent),
            versus_baseline=None if parent is None else versus(base_size, base_quality, base_p50),
        ),
        settings={"mode": "auto", "recover": {"epochs": 2}} if mode else {},
        decisions={"mode": mode} if mode else {},
        budget=BudgetResult("pass" if size < 300_000 else "fail"),
        reference=reference,
    )


def made_up_report(pipeline: str = "fashion-mnist") -> Report:
    base, distilled, pruned = (2_828_000, 0.9367, 0.64), (339_400, 0.9311, 0.0941), (210_300, 0.9302, 0.0702)
    points = (
        point("a000", "baseline", base[0], 696_042, base[1], base[2]),
        point("b111", "baseline distill", distilled[0], 77_754, distilled[1], distilled[2], parent=base),
        point("c222", "baseline distill prune", pruned[0], 48_870, pruned[1], pruned[2], parent=distilled),
        point(
            "d333", "baseline distill prune quantize", 82_700, 48_870, 0.9262, 0.0743,
            parent=pruned, mode="ptq", integer=14, verdict="slower",
            why=("8 of 12 convolutions have fewer than 16 channels", "4 of 18 operators run in float"),
        ),
        point(
            "e444", "baseline distill prune quantize", 82_900, 48_870, 0.9291, 0.0615,
            parent=pruned, mode="qat", integer=18,
        ),
        point(
            "f555", "baseline quantize", 768_200, 696_042, 0.9363, 0.2327,
            parent=base, reference=True, integer=18, mode="ptq",
        ),
    )  # fmt: skip
    return Report(
        pipeline=pipeline,
        points=points,
        frontier=("a000", "b111", "c222", "e444"),
        selected="e444",
        select="smallest",
        budget=BudgetResult("pass"),
        machine=MACHINE,
        notes=("quantize: ptq missed the budget (accuracy_drop 0.0105 > 0.01), so qat was tried",),
    )


def with_control() -> Report:
    """The same, and a control of the distilled point, made right after it."""
    made = made_up_report()
    base, distilled, *others = made.points
    control = point("9c0c", "baseline distill", 339_400, 77_754, 0.9269, 0.0940, parent=(2_828_000, 0.9367, 0.64))
    control = replace(control, settings=distilled.settings, decisions={"control": True})
    helped = replace(distilled.measurement, versus_control=Estimate(0.0042, -0.001, 0.009, 10000))
    points = (base, replace(distilled, measurement=helped), control, *others)
    return replace(made, points=points)


@pytest.fixture
def controlled() -> Results:
    """The results of a run with a control."""
    return results(with_control())


@pytest.fixture
def report() -> Report:
    return made_up_report()


@pytest.fixture
def found(report: Report) -> Results:
    """The report as the plain data of results.json."""
    return results(report)


@pytest.fixture(scope="session")
def page() -> str:
    """The HTML of the made-up report: pictures take a while to draw."""
    return html(results(made_up_report()))
