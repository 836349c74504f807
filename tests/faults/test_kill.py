"""SIGKILL anywhere, and the same call again: the bytes of a run that was left alone; nothing finished is done twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path

import pytest

import compresslab
from compresslab import Store
from compresslab.report import load_results

# Writes down every phase and epoch that begins, and kills its own process at the n-th time that a moment is reached:
# the begin of a phase, the first step of an epoch, or the return of a function.
DRIVER = textwrap.dedent(
    """
    import os, signal, sys
    from collections import Counter
    from importlib import import_module
    from pathlib import Path

    from compresslab import load_pipeline, run

    pipeline, out, log, moment = sys.argv[1:]
    wanted, _, times = moment.partition(" #")
    reached = Counter()


    def reach(name):
        reached[name] += 1
        with open(log, "a") as file:
            file.write(name + "\\n")
        if name == wanted and reached[name] == int(times):
            os.kill(os.getpid(), signal.SIGKILL)


    class Watch:
        def start(self, phase, total):
            self.phase, self.epoch = phase, None
            reach(f"start {phase}")

        def advance(self, steps=1, **values):
            epoch = values.get("epoch")
            if epoch not in (None, self.epoch):
                self.epoch = epoch
                reach(f"{self.phase} epoch {epoch}")

        def note(self, message):
            reach(f"note {message}")


    if wanted.startswith("after "):
        module, _, name = wanted.removeprefix("after ").rpartition(".")
        function = getattr(import_module(module), name)

        def watched(*given, **options):
            value = function(*given, **options)
            reach(wanted)
            return value

        setattr(import_module(module), name, watched)

    run(load_pipeline(Path(pipeline)), out, progress=Watch())
    """
)

# In the order of the run, so that each call goes on from where the one before was killed.
MOMENTS = (
    "after compresslab.exports.export #1",  # the baseline's artifact is written, its entry is not
    "start measure baseline #1",
    "start measure quantize #1",  # the reference
    "train epoch 1 #1",
    "train epoch 3 #1",
    "after compresslab.store._move #1",  # the entry of `train` is there, its scratch folder too
    "start distill #1",  # the teacher has answered
    "distill epoch 2 #1",
    "start measure distill #1",
    "recover epoch 2 #1",
    "start measure prune #1",
    "after compresslab.store._seal #1",  # the measurement of `prune` is written, but not in its place
    "qat epoch 1 #1",
    "start measure quantize #2",
    "after compresslab.runner.write_bundle #1",
)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_at_every_boundary_and_inside_epochs(finished_run, tmp_path, as_yaml, model_hashes):
    path = as_yaml(finished_run.pipeline, tmp_path / "tiny.yaml")
    out, log = tmp_path / "runs" / "tiny", tmp_path / "log"
    environment = {**os.environ, "PYTHONPATH": str(Path(compresslab.__file__).parents[1])}
    for moment in (*MOMENTS, "never #1"):
        ended = subprocess.run(
            [sys.executable, "-c", DRIVER, str(path), str(out), str(log), moment],
            env=environment, cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        expected = 0 if moment == "never #1" else -signal.SIGKILL
        assert ended.returncode == expected, f"{moment}: {ended.stderr}"
        assert (out / "results.json").exists() == (moment == "never #1")

    assert model_hashes(out) == model_hashes(finished_run.out)
    whole, resumed = (load_results(folder) for folder in (finished_run.out, out))
    for results in (whole, resumed):
        for point in results["points"]:
            point["artifact"].pop("graphs")
    assert [point["artifact"] for point in resumed["points"]] == [point["artifact"] for point in whole["points"]]
    assert [point["decisions"] for point in resumed["points"]] == [point["decisions"] for point in whole["points"]]
    assert not [note for note in resumed["notes"] if "damaged" in note]

    begun = Counter(line for line in log.read_text().splitlines() if " epoch " in line)
    killed_in = {moment.partition(" #")[0] for moment in MOMENTS if " epoch " in moment}
    epochs = {"train": 3, "distill": 3, "recover": 2, "qat": 1}
    assert begun == {
        f"{phase} epoch {epoch}": 2 if f"{phase} epoch {epoch}" in killed_in else 1
        for phase, count in epochs.items()
        for epoch in range(1, count + 1)
    }, "a finished epoch is not trained again"
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    made = Counter(event["key"] for event in events if event["event"] == "stage" and not event["cached"])
    assert set(made.values()) == {1}, "a finished stage is not made again"
    measured = Counter(event["id"] for event in events if event["event"] == "measured" and not event["cached"])
    assert set(measured.values()) == {1}
    store = Store(out.parent / ".store")
    unfinished = [entry.key for entry in store.leftovers() if entry.state == "scratch"]
    assert all(store.find("stage", key) for key in unfinished), "what is left to make is nothing"
