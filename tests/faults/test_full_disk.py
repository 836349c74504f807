"""A disk that fills up, at any moment: an error with its remedy, no half-written entry, and the same call goes on."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from compresslab import Pipeline, Store, StoreError, run
from compresslab.cli.app import invoke
from compresslab.progress import Silent
from compresslab.report import load_results
from compresslab.tasks import Classes
from compresslab.teacher import OUTPUT, NetworkTeacher, Question

MB = 1024 * 1024


@dataclass(frozen=True)
class Disk:
    """A small file system of its own, most of it taken by a file that can be made smaller."""

    path: Path

    def leave(self, room: int) -> None:
        """Leaves this many bytes free."""
        ballast = self.path / "ballast"
        ballast.unlink(missing_ok=True)
        free = shutil.disk_usage(self.path).free
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, free - room))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.getuid() != 0:
        pytest.skip("mounting a file system needs root")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={8 * MB}", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"mounting is not allowed here: {mounted.stderr.decode().strip()}")
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def training(finished_run) -> Pipeline:
    """The tiny pipeline up to a distillation: checkpoints, teacher outputs, artifacts and measurements."""
    return replace(finished_run.pipeline, stages=finished_run.pipeline.stages[:2], references=())


def require_whole(store: Path) -> None:
    """Every entry is as it was written, and nothing else is left of what could not be."""
    told: list[str] = []
    kept = Store(store, told.append)
    for entry in kept.entries():
        assert kept.find(entry.kind, entry.key) is not None
    assert told == []
    assert list(store.glob("tmp/*")) == []


def require_events(out: Path) -> list[str]:
    lines = (out / "events.jsonl").read_text().splitlines() if (out / "events.jsonl").exists() else []
    return [json.loads(line)["event"] for line in lines]


@pytest.mark.slow
def test_the_store_fills_up_wherever_it_may(training, disk, tmp_path, finished_run, model_hashes):
    """With a little more room each time, the run dies in an entry, a checkpoint, teacher outputs, ... and goes on."""
    out, store = tmp_path / "out", disk.path / "store"
    failures = 0
    for room in (8, 40, 90, 130, 170, 210, 260, 300, 350):
        disk.leave(room * 1024)
        try:
            run(training, out, store=store)
        except StoreError as error:
            failures += 1
            assert "the disk is full; make room (`compresslab cache prune` does)" in str(error)  # noqa: PT017
            assert str(store) in str(error)  # noqa: PT017
        require_whole(store)
        # What is kept so far uses room too.
        shutil.rmtree(store / "entries" / "measurement", ignore_errors=True)
    assert failures >= 4
    (disk.path / "ballast").unlink()
    run(training, out, store=store)
    expected = {file: digest for file, digest in model_hashes(finished_run.out).items() if file.startswith("stages/")}
    found = {file: digest for file, digest in model_hashes(out).items() if file.startswith("stages/")}
    assert found.items() <= expected.items()
    assert len(found) == 6


def test_teacher_outputs_that_find_no_room(finished_run, disk):
    """More of them than a write buffer holds: numpy's own writing then raises an error that does not name the disk."""
    task = replace(finished_run.pipeline.task.load(disk.path), objective=Classes(tuple(map(str, range(1000)))))
    network = nn.Sequential(nn.Flatten(), nn.Linear(144, 1000))
    teacher = NetworkTeacher(network, "0" * 64, task, Store(disk.path / "store"))
    disk.leave(256 * 1024)
    with pytest.raises(StoreError, match="the disk is full; make room"):
        teacher.answers(Question("train", 1), Silent())
    require_whole(disk.path / "store")
    (disk.path / "ballast").unlink()
    rows = np.arange(len(task.splits["train"].inputs))
    assert teacher.answers(Question("train", 1), Silent()).of(rows)[OUTPUT].shape == (len(rows), 1000)


def test_the_run_directory_fills_up_wherever_it_may(copied_run, disk, nothing_may_be_made, model_hashes):
    out = disk.path / "out"
    failures = 0
    for room in range(0, 1024, 24):
        disk.leave(room * 1024)
        try:
            run(copied_run.pipeline, out, store=copied_run.store)
        except StoreError as error:
            failures += 1
            assert "the disk is full; make room" in str(error)  # noqa: PT017
        else:
            break
        assert list(out.rglob(".*")) == [], "no half-written file is left"
        if (out / "selected").exists():
            whole = {"model.onnx", "manifest.json", "labels.txt", "README.md"}
            assert {file.name for file in (out / "selected").iterdir()} == whole
    assert failures >= 5
    assert model_hashes(out) == model_hashes(copied_run.out)
    assert load_results(out)["selected"] == copied_run.report.selected
    assert require_events(out)[-1] == "done"


def test_the_command_ends_with_4_and_succeeds_once_there_is_room(
    copied_run, disk, nothing_may_be_made, as_yaml, tmp_path, capsys
):
    command = [
        "run", str(as_yaml(copied_run.pipeline, tmp_path / "tiny.yaml")),
        "--out", str(disk.path / "out"), "--store", str(copied_run.store),
    ]  # fmt: skip
    disk.leave(64 * 1024)
    assert invoke(command) == 4
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith(f"error: {disk.path / 'out'}: the disk is full; make room")
    (disk.path / "ballast").unlink()
    assert invoke(command) == 0


@pytest.mark.parametrize("writes", [0, 2, 6])
def test_a_failing_write_where_no_disk_can_be_mounted(copied_run, model_hashes, monkeypatch, writes):
    """After so many flushes to disk: at the first checkpoint, at a later one, and in the entry."""
    before = model_hashes(copied_run.out)
    lines = map(json.loads, (copied_run.out / "events.jsonl").read_text().splitlines())
    (key,) = [line["key"] for line in lines if line["event"] == "stage" and line["stage"] == "train"]
    Store(copied_run.store).discard("stage", key)
    flush = os.fsync
    left = [writes]

    def fsync(descriptor: int) -> None:
        if left[0] == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        left[0] -= 1
        flush(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fsync)
        with pytest.raises(StoreError, match="the disk is full; make room"):
            run(copied_run.pipeline, copied_run.out)
    require_whole(copied_run.store)
    assert require_events(copied_run.out)[-1] == "stopped"
    report = run(copied_run.pipeline, copied_run.out)
    assert [point.stage for point in report.points if not point.cached] == ["train"]
    assert model_hashes(copied_run.out) == before
