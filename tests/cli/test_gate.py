"""compresslab gate, from the command line to the exit code, on models small enough to be measured for real."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from compresslab.digest import digest_file
from compresslab.measure.artifact import GraphInfo, Manifest, TensorInfo, write_manifest
from compresslab.measure.measurement import Estimate, Latency, Measurement
from compresslab.measure.measurement_io import to_json
from compresslab.measure.preprocessing import ImagePreprocessing

from .conftest import Ended

Command = Callable[..., Ended]
SIDE, LABELS = 4, ("left", "right")


def write_onnx(path: Path, *, flip: bool = False, shape: tuple = ("batch", 1, SIDE, SIDE)) -> Path:
    """Sums the left and the right half: right on images with one bright half; with `flip` always wrong."""
    width = shape[3] if isinstance(shape[3], int) else SIDE
    weights = np.zeros((SIDE, width, 2), np.float32)
    weights[:, : SIDE // 2, int(flip)] = weights[:, SIDE // 2 :, int(not flip)] = 1.0
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["x"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["y"])],
        "halves",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(weights.reshape(-1, 2), "w")],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


def write_model(folder: Path, *, flip: bool = False) -> Path:
    path = write_onnx(folder / "model.onnx", flip=flip)
    manifest = Manifest(
        graphs={
            "model": GraphInfo(
                file=path.name, sha256=digest_file(path), bytes=path.stat().st_size, opset=18,
                inputs=(TensorInfo(name="x", dtype="float32", shape=("batch", 1, SIDE, SIDE)),),
                outputs=(TensorInfo(name="y", dtype="float32", shape=("batch", 2)),),
            )
        },
        preprocessing=ImagePreprocessing(height=SIDE, width=SIDE, channels=1, mean=(0.5,), std=(0.5,)),
        labels=LABELS, params=32, macs=32,
    )  # fmt: skip
    write_manifest(folder, manifest)
    return folder


def write_run(folder: Path, selected: str | None = "bbbb") -> Path:
    """A finished run: a baseline, and a model that loses 1 point of accuracy on validation."""
    estimate = {"value": 0.92, "low": 0.91, "high": 0.93}
    points = []
    for identity, lineage in (("aaaa", ["baseline"]), ("bbbb", ["baseline", "prune"])):
        place = write_model(folder / "stages" / identity)
        measured = Measurement(
            quality={"validation": {"toy/accuracy": Estimate(0.92, 0.91, 0.93, 5000)}},
            latency=(Latency("model", 1, 1, "example", "default", "CPUExecutionProvider", 1, 1, None, 1, 1, 500),),
            peak_rss_mb=40.0,
            machine={},
            validation_delta=None if identity == "aaaa" else Estimate(-0.01, -0.014, -0.006, 5000),
        )
        (place / "measurement.json").write_text(json.dumps(to_json(measured)))
        versus = {"speedup": estimate, "size_ratio": 1.0, "quality_delta": estimate}
        points.append(
            {
                "id": identity, "stage": lineage[-1], "lineage": lineage, "cached": False, "seconds": 1.0,
                "artifact": {"graphs": {"model": f"stages/{identity}/model.onnx"}, "sha256": {}, "bytes": 500},
                "params": 32, "macs": 32,
                "quality": {"validation": {"toy/accuracy": {**estimate, "n": 5000}}, "test": {}},
                "retention": {}, "agreement_with_teacher": None,
                "latency_ms": [{
                    "graph": "model", "batch": 1, "threads": 1, "inputs": "example", "session": "default",
                    "provider": "CPUExecutionProvider", "p50": 0.2 if identity == "aaaa" else 0.1, "p90": None,
                    "p99": None, "p50_low": 0.09, "p50_high": 0.21, "samples": 500,
                }],
                "peak_rss_mb": 40.0, "parity": None, "agreement_with_parent": None,
                "integer_operators": {"eligible": 0, "integer": 0}, "versus_parent": None,
                "versus_baseline": None if identity == "aaaa" else versus,
                "settings": {"ratio": 0.5}, "decisions": {}, "reference": False, "budget": "pass",
            }
        )  # fmt: skip
    document = {
        "schema_version": 1, "pipeline": "toy", "points": points, "frontier": ["bbbb"], "selected": selected,
        "select": "smallest", "budget": {"status": "pass", "violations": []},
        "machine": {"cpu": "another CPU", "cores": 64}, "notes": [],
    }  # fmt: skip
    (folder / "results.json").write_text(json.dumps(document))
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    write_model(Path("new"))
    write_model(Path("old"))
    write_model(Path("wrong"), flip=True)
    write_onnx(Path("bare.onnx"))
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 600)
    images = np.zeros((600, SIDE, SIDE, 1), np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[:, : SIDE // 2] = 200 * (label == 0)
        image[:, SIDE // 2 :] = 200 * (label == 1)
    np.savez("images.npz", images=images, labels=labels)
    np.savez("none.npz", images=images[:0], labels=labels[:0])
    for count, name in enumerate(LABELS):
        Path("folder", name).mkdir(parents=True)
        for index in np.flatnonzero(labels == count)[:150]:
            Image.fromarray(images[index, ..., 0]).save(f"folder/{name}/{index}.png")
    return tmp_path


def budget(text: str) -> str:
    Path("budget.yaml").write_text(text)
    return "budget.yaml"


# Loose enough that a busy machine does not change the verdict.
FAST = "p50_ms: 1000\nbytes: 100000\n"


def test_a_model_within_its_budget(command: Command, here: Path) -> None:
    """Every limit measured for real, every format written."""
    limits = budget(FAST + "p50_slower: 900\nsize_ratio: 1.0\npeak_rss_mb: 4000\naccuracy: 0.9\naccuracy_drop: 0.02\n")
    ended = command(
        "gate", "new", "--budget", limits, "--baseline", "old", "--data", "images.npz", "--junit", "out/junit.xml",
        "--bmf", "out/bmf.json", "--github-benchmark", "out/benchmark", "--summary", "summary.md",
    )  # fmt: skip
    assert (ended.code, "Traceback" in ended.err) == (0, False)
    lines = ended.out.splitlines()
    assert lines[0].split() == ["limit", "asked", "found", "status"]
    assert [line.split()[0] for line in lines[1:8]] == [
        "p50_ms", "p50_slower", "bytes", "size_ratio", "peak_rss_mb", "accuracy", "accuracy_drop",
    ]  # fmt: skip
    assert lines[-1].startswith("pass: new against old, batch 1, 1 thread; 8 processes, ")
    assert "note: quality on all of images.npz: 600 examples" in lines
    assert ended.err.startswith("8 processes, ")
    assert ElementTree.parse("out/junit.xml").getroot().attrib["tests"] == "7"
    assert "new p50_ms" in json.loads(Path("out/bmf.json").read_text())
    assert sorted(path.name for path in Path("out/benchmark").iterdir()) == [
        "bigger_is_better.json", "smaller_is_better.json",
    ]  # fmt: skip
    assert Path("summary.md").read_text().startswith("### ✅ pass: `new` against `old`\n")


def test_a_model_over_its_budget_ends_with_1(command: Command, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    Path("summary.md").write_text("before\n")
    ended = command("gate", "new", "--budget", budget("bytes: 10\n"), "--summary", "summary.md")
    assert ended.code == 1
    assert "::error title=compresslab gate%3A bytes::bytes: at most 10 bytes; found" in ended.out
    assert Path("summary.md").read_text().startswith("before\n### ❌ fail"), "what other steps wrote must stay"


def test_what_cannot_be_told_ends_with_3(command: Command, here: Path) -> None:
    ended = command("gate", "bare.onnx", "--budget", budget("p50_ms: 1000\n"), "--time-limit", "1")
    assert ended.code == 3
    assert "raise --time-limit" in ended.out


def test_a_model_that_got_worse_fails_on_data(command: Command, here: Path) -> None:
    """Also from a folder of images, decoded as the model's own preprocessing says."""
    limits = budget("accuracy: 0.9\naccuracy_drop: 0.02\n")
    for data in ("images.npz", "folder"):
        ended = command("gate", "wrong", "--budget", limits, "--baseline", "old", "--data", data)
        assert ended.code == 1
        assert "0 won of" in ended.out


def test_labels_are_matched_by_name(command: Command, here: Path) -> None:
    with np.load("images.npz") as arrays:
        np.savez("named.npz", images=arrays["images"], labels=1 - arrays["labels"], label_names=["right", "left"])
    assert command("gate", "new", "--budget", budget("accuracy: 0.9\n"), "--data", "named.npz").code == 0


def test_a_run_stands_for_its_selected_model_its_baseline_and_its_figures(command: Command, here: Path) -> None:
    write_run(Path("run"))
    ended = command("gate", "run", "--budget", budget("size_ratio: 1.0\naccuracy: 0.9\naccuracy_drop: 0.02\n"))
    assert ended.code == 0
    assert "accuracy_drop: as the run measured it" in ended.out
    assert "pass: run against run (baseline)" in ended.out
    assert command("gate", "run", "--budget", budget("accuracy_drop: 0.005\n")).code == 1


@pytest.mark.parametrize(
    ("arguments", "text", "said"),
    [
        (("nowhere.onnx",), FAST, "nowhere.onnx: no such file; give an .onnx file, an exported model's folder"),
        (("nowhere",), FAST, "nowhere: no such file or folder; give a run folder"),
        (("cut.onnx",), FAST, "cut.onnx: ONNX Runtime"),
        (("cut",), FAST, "its SHA-256 differs from the manifest's"),
        (("future.onnx",), FAST, "Opset 99 is under development"),
        (("new", "--baseline", "other.onnx"), FAST + "p50_slower: 0.05\n", "take the same inputs"),
        (("new", "--baseline", "run/results.json"), FAST, "recorded on another machine (cpu: "),
        (("new", "--baseline", "run/stages/aaaa/measurement.json"), FAST, "figures that were recorded"),
        (("new",), "p50_slower: 0.05\n", "--baseline MODEL_OR_RUN"),
        (("new",), "p90: 5\n", "budget.yaml:1: unknown key `p90`; did you mean `p90_ms`?"),
        (("new",), "p90_ms: 5 ms\n", "write `p90_ms: 5`"),
        (("new",), "batch: 1\n", "it limits nothing"),
        (("new",), "p50_ms: 1\nthreads: 4096\n", "`threads: 4096` cannot be measured"),
        (("new",), "p50_ms: 1\ngraph: text\n", "there is no graph `text`; it has model"),
        (("new",), "accuracy: 0.9\n", "give labelled data as --data"),
        (("new", "--data", "none.npz"), "accuracy: 0.9\n", "there are no images"),
        (("new", "--data", "images.npz"), "accuracy_drop: 0.1\n", "give --baseline"),
        (("new", "--data", "cats.npz"), "accuracy: 0.9\n", "the model has no label `cat`"),
        (("bare.onnx", "--data", "images.npz"), "accuracy: 0.9\n", "a bare ONNX file does not say how samples become"),
        (("run", "--baseline", "old"), "accuracy_drop: 0.1\n", "the run did not measure this baseline; give labelled"),
        (("dynamic.onnx",), FAST, "say how long it is, as `--dim width=128`"),
        (("dynamic.onnx", "--dim", "width"), FAST, "must be NAME=SIZE"),
        (("nothing",), FAST, "this run selected no model"),
    ],
)
def test_bad_input_ends_with_2_and_the_remedy(
    command: Command, here: Path, arguments: tuple[str, ...], text: str, said: str
) -> None:
    write_run(Path("run"))
    write_run(Path("nothing"), selected=None)
    write_onnx(Path("other.onnx"), shape=("batch", 1, SIDE, SIDE + 1))
    write_onnx(Path("dynamic.onnx"), shape=("batch", 1, SIDE, "width"))
    for path in (Path("cut.onnx"), write_model(Path("cut")) / "model.onnx"):
        path.write_bytes(Path("bare.onnx").read_bytes()[:-20])
    future = onnx.load("bare.onnx")
    future.opset_import[0].version = 99
    onnx.save(future, "future.onnx")
    with np.load("images.npz") as arrays:
        np.savez("cats.npz", images=arrays["images"], labels=arrays["labels"], label_names=["cat", "dog"])
    model, *options = arguments
    ended = command("gate", model, "--budget", budget(text), *options)
    assert ended.code == 2
    assert said in " ".join(ended.err.replace("│", "").split())
    assert "Traceback" not in ended.err


def test_it_loads_little_before_it_measures(here: Path) -> None:
    """What a gate on latency waits for before the first process: neither torch nor what takes a second to import."""
    code = """
import sys
import compresslab.measure.bench as bench

def told(*_):
    heavy = ("torch", "onnx", "sklearn", "scipy.stats", "datasets", "altair")
    print("loaded:", [name for name in heavy if name in sys.modules], flush=True)
    raise KeyboardInterrupt

bench._in_fresh_process = told
from compresslab.cli import main
main(["gate", "new", "--baseline", "old", "--budget", "budget.yaml"])
"""
    budget("p50_slower: 0.05\np90_ms: 5\n")
    root = Path(sys.modules["compresslab"].__file__ or "").parents[1]
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": str(root), "PATH": ""}
    )
    assert ended.stdout.startswith("loaded: []\n"), ended.stderr
