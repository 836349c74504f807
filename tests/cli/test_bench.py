from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from compresslab.measure.samples_file import read_samples

from .conftest import Ended
from .test_gate import write_model, write_onnx

Command = Callable[..., Ended]
QUICK = ("--processes", "2", "--seconds", "0.02", "--count", "40")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_model(Path("one"))
    write_onnx(Path("two.onnx"))


def test_models_are_measured_side_by_side_and_kept(command: Command) -> None:
    ended = command("bench", "one", "two.onnx", "--batch", "1", "--batch", "3", *QUICK, "--out", "out")
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert lines[0].split()[:3] == ["model", "batch", "threads"]
    assert [line.split()[:3] for line in lines[1:5]] == [
        ["one", "1", "1"], ["one", "3", "1"], ["two.onnx", "1", "1"], ["two.onnx", "3", "1"],
    ]  # fmt: skip
    assert "noise: the same model, measured twice, differs by up to" in ended.out
    document = json.loads(Path("out/bench.json").read_text())
    assert [model["name"] for model in document["models"]] == ["one", "two.onnx"]
    recorded = read_samples(Path("out/samples.npz"))
    assert [[len(model.processes) for model in point] for point in recorded] == [[2, 2, 2], [2, 2, 2]]
    assert document["models"][1]["points"][1]["calls"] == recorded[1][1].count


def test_providers_and_session_options_are_crossed_with_the_models(command: Command) -> None:
    ended = command(
        "bench", "one", "--provider", "CPU", "--optimization", "all", "--optimization", "disabled", "--spinning",
        "--io-binding", *QUICK, "--json",
    )  # fmt: skip
    assert ended.code == 0
    models = json.loads(ended.out)["models"]
    assert [(model["name"], model["session"]) for model in models] == [
        ("one (CPU all)", "allow_spinning=True"),
        ("one (CPU disabled)", "graph_optimization=disabled allow_spinning=True"),
    ]
    assert models[0]["points"][0]["io_binding"] is True


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("one", "--provider", "Imaginary"), "has no ImaginaryExecutionProvider"),
        (("one", "--provider", "../x"), "provider: String should match pattern"),
        (("one", "--optimization", "most"), "graph_optimization: Input should be 'all'"),
        (("one", "--threads", "4096"), "`--threads 4096` cannot be measured"),
        (("one", "other.onnx"), "take the same inputs"),
        (("one", "--batch", "0"), "Invalid value for '--batch'"),
        (("nowhere",), "nowhere: no such file or folder"),
    ],
)
def test_bad_input_ends_with_2_and_the_remedy(command: Command, arguments: tuple[str, ...], said: str) -> None:
    write_onnx(Path("other.onnx"), shape=("batch", 1, 4, 5))
    ended = command("bench", *arguments, *QUICK)
    assert ended.code == 2
    assert said in " ".join(ended.err.replace("│", "").split())
    assert "Traceback" not in ended.err
