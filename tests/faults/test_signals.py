"""Ctrl-C and SIGTERM on the command: it ends with 130, and the same command goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

import compresslab
from compresslab import BenchPoint, BenchSettings, Train
from compresslab.report import load_results

ENDS = "interrupted: what is finished is kept, and the same command goes on from there"


@contextmanager
def command(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """`compresslab ...` in a process group of its own, as a shell starts it."""
    environment = {**os.environ, "PYTHONPATH": str(Path(compresslab.__file__).parents[1])}
    with subprocess.Popen(
        [sys.executable, "-m", "compresslab", *arguments],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def wait_for(what: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    while not what():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def is_measuring(process: subprocess.Popen[str]) -> bool:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    with_arguments = (Path(f"/proc/{child}/cmdline") for child in children.read_text().split())
    return any(b"compresslab.measure.worker" in path.read_bytes() for path in with_arguments if path.exists())


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_a_training(tiny_pipeline, tmp_path, as_yaml, number):
    pipeline = replace(tiny_pipeline, stages=[Train(epochs=60, batch=64, learning_rate=0.02)], references=())
    path, out = as_yaml(pipeline, tmp_path / "tiny.yaml"), tmp_path / "runs" / "tiny"
    checkpoints = tmp_path / "runs" / ".store" / "scratch"
    with command("run", str(path), "--out", str(out)) as process:
        wait_for(lambda: any(checkpoints.glob("*/*/train.checkpoint")), process)
        process.send_signal(number)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert err.splitlines()[-1] == ENDS
    assert not (out / "results.json").exists()
    (last,) = (out / "events.jsonl").read_text().splitlines()[-1:]
    assert json.loads(last)["error"] == "KeyboardInterrupt"

    with command("run", str(path), "--out", str(out)) as process:
        _, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    (trained,) = [point for point in load_results(out)["points"] if point["stage"] == "train"]
    assert len(trained["decisions"]["loss"]) == 60


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc to see the measuring process")
def test_ctrl_c_in_a_measurement(tiny_pipeline, tmp_path, as_yaml):
    """A terminal sends it to the measuring process as well, whose death must not be taken for a failure."""
    bench = BenchSettings(processes=1, min_seconds=30.0, max_seconds=60.0, points=(BenchPoint(),))
    pipeline = replace(tiny_pipeline, bench=bench)
    out = tmp_path / "out"
    with command("run", str(as_yaml(pipeline, tmp_path / "tiny.yaml")), "--out", str(out)) as process:
        wait_for(lambda: is_measuring(process), process)
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert err.splitlines()[-1] == ENDS
