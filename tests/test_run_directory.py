"""The run directory: files appear whole, folders of earlier runs go, and nobody else's files are touched."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
import yaml

from compresslab.errors import StoreError
from compresslab.run_directory import RunDirectory


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path / "runs" / "x")


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """A candidate as the store keeps it."""
    folder = tmp_path / "node"
    (folder / "artifact").mkdir(parents=True)
    (folder / "weights.safetensors").write_bytes(b"weights")
    (folder / "artifact" / "model.onnx").write_bytes(b"graph")
    (folder / "artifact" / "manifest.json").write_text("{}")
    return folder


def test_events_are_lines_in_the_order_they_happened(directory: RunDirectory) -> None:
    directory.event("stage", stage="train", cached=False, seconds=1.5)
    directory.event("done", selected=None)
    first, second = map(json.loads, (directory.path / "events.jsonl").read_text().splitlines())
    assert {key: first[key] for key in ("event", "stage", "cached", "seconds")} == {
        "event": "stage", "stage": "train", "cached": False, "seconds": 1.5,
    }  # fmt: skip
    assert second["event"] == "done"
    assert second["time"] >= first["time"] > 0


def test_a_stage_folder_holds_the_model_its_artifact_and_its_measurement(directory: RunDirectory, node: Path) -> None:
    place = directory.stage("abcd", node, {"peak_rss_mb": 3.5})
    assert place == directory.path / "stages" / "abcd"
    assert {file.name for file in place.iterdir()} == {
        "weights.safetensors", "model.onnx", "manifest.json", "measurement.json",
    }  # fmt: skip
    assert json.loads((place / "measurement.json").read_text()) == {"peak_rss_mb": 3.5}


def test_a_stage_folder_is_replaced_as_a_whole(directory: RunDirectory, node: Path) -> None:
    directory.stage("abcd", node, {})
    (node / "weights.safetensors").unlink()
    place = directory.stage("abcd", node, {"peak_rss_mb": 4.0})
    assert not (place / "weights.safetensors").exists()
    assert [folder.name for folder in (directory.path / "stages").iterdir()] == ["abcd"]


def test_a_full_disk_leaves_the_stage_folder_as_it_was(
    directory: RunDirectory, node: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory.stage("abcd", node, {"peak_rss_mb": 1.0})

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("compresslab.run_directory.shutil.copy2", full)
    with pytest.raises(StoreError, match="the disk is full; make room"):
        directory.stage("abcd", node, {"peak_rss_mb": 2.0})
    assert [folder.name for folder in (directory.path / "stages").iterdir()] == ["abcd"]
    text = (directory.path / "stages" / "abcd" / "measurement.json").read_text()
    assert json.loads(text) == {"peak_rss_mb": 1.0}


def test_stages_of_earlier_runs_go_and_so_does_what_a_crash_left(directory: RunDirectory, node: Path) -> None:
    for point in ("abcd", "ef01"):
        directory.stage(point, node, {})
    (directory.path / "stages" / ".draft-0123").mkdir()
    directory.keep_only({"abcd"})
    assert [folder.name for folder in (directory.path / "stages").iterdir()] == ["abcd"]


def test_folders_that_are_not_ours_stay(directory: RunDirectory, node: Path) -> None:
    """`--out .` in a project that has a `stages/` or a `selected/` of its own must not cost its files."""
    theirs = [directory.path / "stages" / "mine" / "code.py", directory.path / "selected" / "thesis.txt"]
    for file in theirs:
        file.parent.mkdir(parents=True)
        file.write_text("years of work")
    directory.keep_only(set())
    directory.clear_selected()
    assert all(file.exists() for file in theirs)


def test_the_bundle_of_an_earlier_run_goes(directory: RunDirectory) -> None:
    bundle = directory.path / "selected"
    bundle.mkdir(parents=True)
    (bundle / "manifest.json").write_text("{}")
    directory.clear_selected()
    assert not bundle.exists()
    directory.clear_selected()


def test_the_lock_file_is_plain_yaml_in_the_order_given(directory: RunDirectory) -> None:
    directory.lock({"lock_version": 1, "pipeline": {"name": "ä", "a": [1, 2]}})
    text = (directory.path / "lock.yaml").read_text(encoding="utf-8")
    assert text.startswith("lock_version: 1\n")
    assert yaml.safe_load(text) == {"lock_version": 1, "pipeline": {"name": "ä", "a": [1, 2]}}
    assert [file.name for file in directory.path.iterdir()] == ["lock.yaml"]


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match="choose another one"):
        RunDirectory(tmp_path / "x").event("run")
