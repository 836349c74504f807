"""The model card tells facts alone, and its code runs as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from compresslab.bundle import write_bundle
from compresslab.bundle.card import model_card
from compresslab.bundle.snippet import answer_sample, open_graphs
from compresslab.digest import digest_file
from compresslab.measure.artifact import TensorInfo, load_artifact, write_manifest
from compresslab.measure.evaluate import predict
from compresslab.measure.preprocessing import FeaturePreprocessing, ImagePreprocessing
from compresslab.measure.session import SessionOptions

if TYPE_CHECKING:
    from collections.abc import Callable

    from compresslab.report import Report

    MakeReport = Callable[..., Report]

GREY = ImagePreprocessing(height=6, width=5, channels=1, mean=(0.3,), std=(0.25,))
COLOUR = ImagePreprocessing(
    height=6, width=5, channels=3, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3), resize="bicubic", crop=0.8
)
CUT = COLOUR.model_copy(update={"fit": "cover"})


def run(code: str, folder: Path) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("folded", ["uint8-nhwc", "uint8-nchw", "float32-nhwc", "float32-nchw"])
@pytest.mark.parametrize("preprocessing", [GREY, COLOUR, CUT], ids=["grey", "colour", "cut"])
def test_the_code_for_a_graph_that_normalizes_gives_it_the_pixels(
    make_report: MakeReport, tmp_path: Path, preprocessing: ImagePreprocessing, folded: str
) -> None:
    artifact = make_report(preprocessing).point("b2").artifact
    how = preprocessing.model_copy(update={"folded": folded})
    code = answer_sample(artifact.manifest.model_copy(update={"preprocessing": how})).splitlines()
    lines = [line for line in code if not line.startswith(("session", "print"))]
    pixels = np.random.default_rng(3).integers(0, 256, size=(40, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    run("\n".join([*lines, "numpy.save('inputs.npy', inputs)"]), tmp_path)
    inputs = np.load(tmp_path / "inputs.npy")
    expected = how.graph_input(how.open(tmp_path / "image.png")[np.newaxis])
    assert inputs.dtype == expected.dtype
    np.testing.assert_array_equal(inputs, expected)


@pytest.mark.parametrize(
    ("preprocessing", "session"),
    [
        (GREY, SessionOptions()),
        (COLOUR, SessionOptions(graph_optimization="basic", disabled_optimizers=("MatMulAddFusion",))),
    ],
    ids=["grey", "colour"],
)
def test_the_code_on_the_card_gives_what_we_measure(
    make_report: MakeReport, tmp_path: Path, preprocessing: ImagePreprocessing, session: SessionOptions
) -> None:
    report = make_report(preprocessing, session)
    folder = write_bundle(report.point("b2"), report, tmp_path / "run" / "selected")
    (code,) = re.findall(r"```python\n(.*?)\n```", (folder / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    # Answers of one picture agree by luck in one of three cases, scores do not.
    scores = code.replace("print(", "print(session.run(None, {'pixels': inputs})[0].tolist(), end=' '); print(")
    pixels = np.random.default_rng(3).integers(0, 256, size=(40, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "image.png")

    bundle = load_artifact(folder)
    expected = predict(bundle, preprocessing.open(folder / "image.png")[np.newaxis])[0]
    assert run(code, folder) == bundle.manifest.labels[int(expected.argmax())]
    shown = [float(number) for number in re.findall(r"-?\d+\.\d+(?:e-?\d+)?", run(scores, folder))]
    assert shown == pytest.approx(expected.tolist(), rel=1e-4, abs=1e-4)


def test_six_lines_are_enough(make_report: MakeReport) -> None:
    assert len(answer_sample(make_report().point("b2").artifact.manifest).splitlines()) == 6


def test_a_model_without_labels_prints_the_class_number(make_report: MakeReport) -> None:
    manifest = make_report().point("b2").artifact.manifest.model_copy(update={"labels": ()})
    assert answer_sample(manifest).splitlines()[-1] == "print(session.run(None, {'pixels': inputs})[0].argmax())"


def test_two_graphs_are_opened(make_report: MakeReport) -> None:
    artifact = make_report().point("b2").artifact
    info = artifact.manifest.graphs["model"]
    manifest = artifact.manifest.model_copy(update={"graphs": {"image": info, "text": info}})
    printed = run(open_graphs(manifest), artifact.folder)
    assert printed.count("('pixels', ['batch', 1, 6, 5])") == 2


@pytest.fixture
def card(make_report: MakeReport) -> str:
    report = make_report()
    return model_card(report.point("b2"), report)


@pytest.mark.parametrize(
    "fact",
    [
        "# boots: distill",
        "and 4.00x [3.90, 4.10] faster than baseline, at -1.00 [-2.00, +0.00] points of test accuracy",
        "| model | input | pixels | float32 | batch x 1 x 6 x 5 |",
        "| model | output | scores | float32 | batch x 3 |",
        "resized (bilinear) to 6 rows of 5 pixels, values 0 to 255 divided by 255, less 0.3, divided by 0.25",
        r"- 1: bag \| tote",
        "| boots/accuracy on validation | 90.50 [88.00, 93.00] %, n=500 |",
        "| boots/accuracy on test | 90.00 [88.00, 92.00] %, n=1,000 |",
        "| boots/accuracy, retained of the teacher's | 99.00 [97.00, 101.00] % |",
        "| latency (model, batch 1, threads 1) | p50 0.0500 ms [0.0490, 0.0510], p90 0.0600 ms |",
        "| difference to the torch module | at most 2.0e-06 over 64 inputs |",
        "| operators that run in integers | 1 of the 1 that could |",
        "Quality was measured on boots only, and speed on the machine below only.",
        "| cpu | AMD EPYC |",
        '2. distill; settings: `{"epochs": 16, "temperature": 4.0}`; decided: `{"kept": "last"}`',
    ],
)
def test_facts_on_the_card(card: str, fact: str) -> None:
    assert fact in card


def test_files_are_listed_with_their_hashes(make_report: MakeReport) -> None:
    report = make_report()
    info = report.point("b2").artifact.manifest.graphs["model"]
    card = model_card(report.point("b2"), report)
    assert f"| model | model.onnx | {info.bytes:,} | 18 | {info.sha256} |" in card


def test_nothing_is_left_to_be_filled_in(card: str) -> None:
    assert not re.findall(r"TODO|TBD|FIXME|\[more information|fill in|<[a-z ]+>|placeholder", card, re.IGNORECASE)


def test_the_card_of_the_baseline_compares_it_with_nothing(make_report: MakeReport) -> None:
    report = make_report()
    assert "baseline is what all others are compared with." in model_card(report.point("a1"), report)


def score_artifact(folder: Path, like: Report, preprocessing: FeaturePreprocessing) -> Report:
    """The report with its point `b2` made a model that sums three features."""
    weights = numpy_helper.from_array(np.ones((3, 1), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["input", "w"], ["score"])], "sum",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch", 1])], [weights],
    )  # fmt: skip
    folder.mkdir()
    path = folder / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    point = like.point("b2")
    info = point.artifact.manifest.graphs["model"].model_copy(
        update={
            "sha256": digest_file(path),
            "bytes": path.stat().st_size,
            "inputs": (TensorInfo(name="input", dtype="float32", shape=("batch", 3)),),
            "outputs": (TensorInfo(name="score", dtype="float32", shape=("batch", 1)),),
        }
    )
    changes = {"graphs": {"model": info}, "preprocessing": preprocessing, "labels": (), "target": "tail length"}
    write_manifest(folder, point.artifact.manifest.model_copy(update=changes))
    made = replace(point, artifact=load_artifact(folder))
    return replace(like, points=tuple(made if one.id == "b2" else one for one in like.points))


@pytest.mark.parametrize(
    "preprocessing",
    [FeaturePreprocessing(width=3, mean=(1.0, -20.0, 0.5), std=(2.0, 0.5, 1.0)), FeaturePreprocessing(width=3)],
    ids=["standardised", "as they are"],
)
def test_the_code_on_a_regressions_card_gives_what_we_measure(
    make_report: MakeReport, tmp_path: Path, preprocessing: FeaturePreprocessing
) -> None:
    report = score_artifact(tmp_path / "sum", make_report(), preprocessing)
    folder = write_bundle(report.point("b2"), report, tmp_path / "selected")
    (code,) = re.findall(r"```python\n(.*?)\n```", (folder / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    features = np.random.default_rng(0).normal(1.0, 3.0, (4, 3)).astype(np.float32)
    np.save(folder / "features.npy", features)
    shown = [float(number) for number in re.findall(r"-?\d+\.\d*(?:e-?\d+)?", run(code, folder))]
    assert shown == pytest.approx(predict(load_artifact(folder), features)[:, 0].tolist(), rel=1e-5, abs=1e-5)


def test_a_regressions_card_speaks_of_no_classes(make_report: MakeReport, tmp_path: Path) -> None:
    few = FeaturePreprocessing(width=3, mean=(1.0, -20.0, 0.5), std=(2.0, 0.5, 1.0))
    report = score_artifact(tmp_path / "sum", make_report(), few)
    card = model_card(report.point("b2"), report)
    assert "rows of 3 features, in the order of the training data, each less its mean (1, -20, 0.5), divided by" in card
    assert "The output is tail length, in the units of the training data." in card
    assert "| correlation with the teacher's answers | 97.00 % |" in card
    for wrong in ("image", "class", "softmax", "same answer"):
        assert wrong not in card.lower()
    many = FeaturePreprocessing(width=2000, mean=(0.0,) * 2000, std=(1.0,) * 2000)
    point = report.point("b2")
    manifest = point.artifact.manifest.model_copy(update={"preprocessing": many})
    told = replace(point, artifact=replace(point.artifact, manifest=manifest))
    assert "divided by its deviation; both are in manifest.json" in model_card(told, report)
    assert len(model_card(told, report)) < 5000
