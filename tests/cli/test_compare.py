from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from .conftest import Ended
from .test_gate import SIDE, write_model, write_onnx, write_run

Command = Callable[..., Ended]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def change(run: str, edit: Callable[[dict[str, Any]], None]) -> None:
    path = Path(run, "results.json")
    document = json.loads(path.read_text())
    edit(document)
    path.write_text(json.dumps(document))


def test_two_runs_are_aligned_by_lineage_with_an_interval_for_each_difference(command: Command) -> None:
    write_run(Path("a"))
    write_run(Path("b"))

    def edit(document: dict[str, Any]) -> None:
        pruned = document["points"][1]
        pruned["settings"]["ratio"] = 0.3
        pruned["artifact"]["bytes"] = 250
        pruned["latency_ms"][0].update(p50=0.05, p50_low=0.049, p50_high=0.051)
        document["points"].append({**pruned, "id": "cccc", "lineage": ["baseline", "prune", "quantize"]})

    change("b", edit)
    ended = command("compare", "a", "b")
    assert ended.code == 0
    rows = [line.split("  ") for line in ended.out.splitlines()[1:4]]
    assert [row[0] for row in rows] == ["baseline", "baseline > prune", "baseline > prune > quantize"]
    text = ended.out.splitlines()
    assert "1x " in text[1]
    assert "2x [" in text[2]
    assert "+0.00 [-1.41, +1.41]" in text[2], "two intervals of 1 point make one of the square root of 2"
    assert text[3].rstrip().endswith("-")
    assert "note: baseline > prune: ratio: 0.5 against 0.3" in text


def test_a_control_is_aligned_with_a_control(command: Command) -> None:
    """By its lineage alone, one run's control would stand beside the other's student."""
    write_run(Path("a"))
    write_run(Path("b"))

    def edit(document: dict[str, Any]) -> None:
        pruned = document["points"][1]
        document["points"].insert(1, {**pruned, "id": "cccc", "decisions": {"control": True}})

    change("b", edit)
    lines = command("compare", "a", "b").out.splitlines()
    row = next(line for line in lines if line.startswith("baseline > prune  "))
    assert "1x " in row
    assert any(line.startswith("baseline > prune (control)") for line in lines)


def test_runs_of_different_machines_are_refused_unless_told(command: Command) -> None:
    write_run(Path("a"))
    write_run(Path("b"))
    change("b", lambda document: document["machine"].update(cores=2))
    ended = command("compare", "a", "b")
    assert ended.code == 2
    assert "measured on different machines (cores: 64 against 2)" in ended.err
    assert "say --across-machines" in ended.err
    ended = command("compare", "a", "b", "--across-machines")
    assert ended.code == 0
    assert "note: different machines: cores: 64 against 2" in ended.out


@pytest.mark.parametrize(("what", "value"), [("threads", 2), ("inputs", "data"), ("graph", "image + text")])
def test_another_point_or_metric_is_not_compared(command: Command, what: str, value: object) -> None:
    write_run(Path("a"))
    write_run(Path("b"))

    def edit(document: dict[str, Any]) -> None:
        document["points"][0]["latency_ms"][0].update({what: value})
        quality = document["points"][0]["quality"]["validation"]
        quality["toy/f1_macro"] = quality.pop("toy/accuracy")

    change("b", edit)
    row = command("compare", "a", "b").out.splitlines()[1]
    assert "another point" in row
    assert "another metric" in row


def test_two_models_are_measured_here_side_by_side(command: Command) -> None:
    write_model(Path("a"))
    write_model(Path("b"), flip=True)
    images = np.zeros((100, SIDE, SIDE, 1), np.uint8)
    images[:, :, : SIDE // 2] = 200
    np.savez("images.npz", images=images, labels=np.zeros(100, np.int64))
    ended = command("compare", "a", "b", "--data", "images.npz")
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert lines[1].split()[0] == "size,"
    assert lines[2].split()[:5] == ["accuracy,", "%", "100.00", "0.00", "-100.00"]
    assert "worse" in lines[2]
    assert lines[4].startswith("p50 ms, batch 1, 1 thread")
    assert "note: A is a, B is b; measured here, interleaved" in lines


def test_models_with_other_inputs_do_not_compare(command: Command) -> None:
    write_onnx(Path("a.onnx"))
    write_onnx(Path("b.onnx"), shape=("batch", 1, 4, 5))
    ended = command("compare", "a.onnx", "b.onnx")
    assert ended.code == 2
    assert "take the same inputs" in ended.err
