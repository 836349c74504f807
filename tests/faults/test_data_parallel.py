"""Two processes that train together: the losses of one, files written once, and nobody waits for one that has ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import compresslab
from compresslab import Store
from compresslab.report import load_results
from compresslab.testing import stripes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

# Networks without BatchNorm, whose statistics would be those of a half of the batch; and failures to be asked for.
NETWORKS = textwrap.dedent(
    """
    import os

    import torch
    from torch import nn

    FAIL = os.environ.get("FAIL", "")


    def network(width, seed=0):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return nn.Sequential(
                nn.Conv2d(1, width, 3, 2, 1), nn.ReLU(), nn.Conv2d(width, width, 3, 2, 1), nn.ReLU(),
                nn.Flatten(), nn.Linear(9 * width, 3),
            )


    def fail(*_, **__):
        from compresslab.errors import BenchmarkFailed, ParityError

        what = FAIL.partition(" ")[2]
        if what == "dies":
            os._exit(9)
        raise {"ParityError": ParityError, "BenchmarkFailed": BenchmarkFailed, "OSError": OSError}[what]("on purpose")


    if FAIL.startswith("export"):
        import compresslab.exports

        compresslab.exports.export = fail
    if FAIL.startswith("measure"):
        from compresslab.measure.measuring import Measurer

        Measurer.measure = fail
    """
)
FIT = {"batch": 42, "learning_rate": 0.02, "precision": "fp32", "epochs": 2}


def network(width: int, seed: int = 0) -> dict[str, Any]:
    return {"python": "networks:network", "arguments": {"width": width, "seed": seed}}


def document(*stages: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": "two",
        "task": {"image_classification": {"npz": "stripes.npz", "name": "stripes", "transfer": "more.npz"}},
        "model": network(16),
        "stages": list(stages),
        "bench": {
            "processes": 1, "min_seconds": 0.02, "min_count": 20, "warmup_seconds": 0.02, "points": [{"batch": 1}],
        },
    }  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    np.savez(tmp_path / "stripes.npz", **stripes())
    np.savez(tmp_path / "more.npz", images=stripes(100, seed=7)["images"])
    (tmp_path / "networks.py").write_text(NETWORKS)
    return tmp_path


@pytest.fixture
def write(folder: Path) -> Callable[..., Path]:
    def write_(*stages: dict[str, Any]) -> Path:
        (folder / "two.yaml").write_text(yaml.safe_dump(document(*stages)))
        return folder / "two.yaml"

    return write_


def environment(**more: str) -> dict[str, str]:
    root = str(Path(compresslab.__file__).parents[1])
    return {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1", **more}


TOGETHER = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--tee", "3"]
# On CPUs too it is this option that makes it start several processes.
ACCELERATE = [
    "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
    "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0", "--tee", "3",
]  # fmt: skip


@contextmanager
def launched(launcher: list[str], folder: Path, *arguments: str, **more: str) -> Iterator[subprocess.Popen[str]]:
    """`compresslab ...` in two processes; what each says is also in files of its own."""
    logs = ["--log_dir" if launcher is ACCELERATE else "--log-dir", str(folder / "logs")]
    command = [sys.executable, *launcher, *logs, "-m", "compresslab", *arguments]
    with subprocess.Popen(
        command, cwd=folder, env=environment(**more), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            # A launcher that is killed leaves its processes, which are in sessions of their own.
            left = workers(process) if process.poll() is None else []
            process.kill()
            for one in left:
                with suppress(ProcessLookupError):
                    os.kill(one, signal.SIGKILL)


def said(folder: Path, rank: int) -> str:
    """What a process of the last launch wrote to stdout and stderr."""
    runs = sorted((folder / "logs").glob("*"), key=lambda one: one.stat().st_mtime)
    return "".join(path.read_text() for path in sorted(runs[-1].glob(f"attempt_0/{rank}/std*.log")))


def decisions(out: Path) -> list[dict[str, Any]]:
    return [point["decisions"] for point in load_results(out)["points"]]


def test_two_processes_come_to_the_losses_of_one(folder, write) -> None:
    """Every kind of loss at once, over labelled and unlabelled samples, peers, a choice and a control beside it."""
    path = write(
        {"mutual": {**FIT, "peers": [network(8, 1), network(8, 2)]}},
        {
            "distill": {
                **FIT, "student": network(8, 3), "control": True, "accumulate": 3,
                "ema": {"tune": [0.5, 0.9]},
                "losses": [
                    {"kd": {"temperature": 2.0}}, {"dist": {}}, {"task": {"weight": 0.5}},
                    {"hint": {"student": "3", "teacher": "3", "weight": 0.1}},
                ],
            },
        },
        {"distill": {**FIT, "losses": [
            {"kd": {}}, {"rkd": {"student": "4", "teacher": "4", "weight": 0.1}}, {"dist": {}}, {"task": {}},
        ]}},
        {"quantize": {"backend": "onnxruntime", "samples": 24}},
    )  # fmt: skip
    alone = subprocess.run(
        [sys.executable, "-m", "compresslab", "run", str(path), "--out", str(folder / "alone" / "two")],
        cwd=folder, env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert alone.returncode == 0, alone.stderr
    out = folder / "together" / "two"
    with launched(ACCELERATE, folder, "run", str(path), "--out", str(out)) as process:
        _, err = process.communicate(timeout=1200)
    assert process.returncode == 0, err

    one, two = decisions(folder / "alone" / "two"), decisions(out)
    assert len(one) == len(two) == 7
    for ours, theirs in zip(two, one, strict=True):
        assert ours.get("loss") == pytest.approx(theirs.get("loss"), abs=1e-5)
        assert ours.get("explained") == pytest.approx(theirs.get("explained"), abs=1e-3)
    assert [len(one_["loss"]) for one_ in two if "loss" in one_] == [2, 2, 2, 2, 2]

    assert said(folder, 1) == ""
    main = said(folder, 0)
    assert main.count("selected model: ") == 1
    assert "process group" not in main + err
    assert "Warning" not in main

    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events].count("done") == 1
    made = [event["key"] for event in events if event["event"] == "stage" and not event["cached"]]
    assert len(made) == len(set(made)) == 5
    assert {file.name for file in out.iterdir()} == {path.name for path in (folder / "alone" / "two").iterdir()}
    store = Store(out.parent / ".store")
    assert store.leftovers() == ()
    entries = [Store(folder / where / ".store").entries() for where in ("alone", "together")]
    assert sorted(entry.kind for entry in entries[0]) == sorted(entry.kind for entry in entries[1])

    # What is finished is found again, by whatever launcher; one process would make it anew, to other bytes.
    with launched(TOGETHER, folder, "run", str(path), "--out", str(out)) as process:
        _, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    assert all(point["cached"] for point in load_results(out)["points"])
    assert said(folder, 1) == ""


@pytest.mark.parametrize(
    ("fail", "told"),
    [
        ("export ParityError", "error: on purpose"),
        ("measure BenchmarkFailed", "error: on purpose"),
        ("measure OSError", "OSError: on purpose"),
        ("export dies", ""),
    ],
)
def test_what_fails_in_the_main_process_ends_both(folder, write, fail, told) -> None:
    """The other waits for it there, and must neither wait for ever nor tell the same again."""
    path = write({"train": FIT})
    with launched(TOGETHER, folder, "run", str(path), "--out", str(folder / "out"), FAIL=fail) as process:
        process.communicate(timeout=300)
    assert process.returncode != 0
    assert told in said(folder, 0)
    assert said(folder, 1) == ""
    assert not (folder / "out" / "results.json").exists()


def test_bad_input_is_told_once(folder, write) -> None:
    path = write({"distill": {**FIT, "losses": [{"hint": {"student": "9", "teacher": "3"}}]}})
    with launched(TOGETHER, folder, "run", str(path), "--out", str(folder / "out")) as process:
        process.communicate(timeout=300)
    assert process.returncode != 0
    assert "`hint`: the student has no layer `9`" in said(folder, 0)
    assert said(folder, 1) == ""


def workers(process: subprocess.Popen[str]) -> list[int]:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(child) for child in children if b"compresslab" in Path(f"/proc/{child}/cmdline").read_bytes()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc to see the processes")
def test_sigterm_stops_both_and_the_same_command_goes_on(folder, write) -> None:
    epochs = 40
    path, out = write({"train": {**FIT, "epochs": epochs}}), folder / "two"
    checkpoints = folder / ".store" / "scratch"
    with launched(TOGETHER, folder, "run", str(path), "--out", str(out)) as process:
        while not any(checkpoints.glob("*/*/train.checkpoint")):
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        both = workers(process)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=120)
    assert len(both) == 2
    assert not any(Path(f"/proc/{one}").exists() for one in both)
    assert process.returncode != 0
    assert said(folder, 1) == ""
    assert not (out / "results.json").exists()
    (checkpoint,) = checkpoints.glob("*/*/train.checkpoint")
    stored = torch.load(_content(checkpoint), weights_only=True)
    assert 0 < len(stored["history"]) < epochs

    with launched(TOGETHER, folder, "run", str(path), "--out", str(out)) as process:
        _, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    losses = decisions(out)[1]["loss"]
    assert len(losses) == epochs
    assert losses[: len(stored["history"])] == [round(loss, 6) for loss, _ in stored["history"]]


def _content(checkpoint: Path) -> Any:
    """What torch wrote, after the SHA-256."""
    import io

    return io.BytesIO(checkpoint.read_bytes()[32:])
