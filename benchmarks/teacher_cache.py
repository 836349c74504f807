"""What the cache of the teacher's answers is worth: an epoch without a teacher, with cached answers, with a live one.

python -m benchmarks.teacher_cache            three rounds, interleaved
python -m benchmarks.teacher_cache --quick    one round
python -m benchmarks.teacher_cache --table    the table of the last full run

One thread, processor time: what else runs on the machine hardly counts. Cached answers are opened anew in each epoch,
their hash and the spot check against the teacher included.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from scipy import stats

from benchmarks.document import load, of_one_network, options, publish
from compresslab.config import load_pipeline
from compresslab.distillation import Recipe, learn
from compresslab.models import architecture
from compresslab.stages import Distill
from compresslab.store import Store
from compresslab.teacher import NetworkTeacher
from compresslab.testing import context

NAME = "teacher_cache"
PIPELINE = Path(__file__).parent.parent / "pipelines" / "fashion_mnist.yaml"
ROUNDS = 3
NO_TEACHER, CACHED, LIVE = "no teacher", "cached answers", "answers computed in the epoch"


def main(arguments: Sequence[str] | None = None) -> None:
    """Times the epochs, prints the table, publishes the document."""
    asked = options(__doc__, arguments)
    if asked.table:
        print(markdown(load(NAME)))
        return
    torch.set_num_threads(1)
    begun = time.perf_counter()
    seconds: dict[str, list[float]] = {NO_TEACHER: [], CACHED: [], LIVE: []}
    with TemporaryDirectory() as folder:
        epochs = _Epochs(Path(folder))
        epochs.cached(0)
        for number in range(1 if asked.quick else ROUNDS):
            # Turned about in each round, so that a drift of the machine does not fall on one of them.
            order = (NO_TEACHER, CACHED, LIVE) if number % 2 == 0 else (LIVE, CACHED, NO_TEACHER)
            for name in order:
                seconds[name].append(_timed(epochs.of(name), number))
                print(f"round {number + 1}, {name}: {seconds[name][-1]:.2f} s", flush=True)
    body = {"parameters": epochs.parameters, "samples": epochs.samples, "seconds_by_round": seconds}
    print(markdown(body))
    publish(NAME, time.perf_counter() - begun, body, quick=asked.quick)


class _Epochs:
    """One epoch of the main job's student, with answers from different places."""

    def __init__(self, folder: Path) -> None:
        pipeline = load_pipeline(PIPELINE)
        distill = pipeline.stages[0]
        assert isinstance(distill, Distill), "the main job begins with distillation"
        assert distill.student is not None, "which makes a student"
        self._folder = folder
        self._student = distill.student
        self._task = of_one_network(pipeline.task.load(folder / "data"))
        self._teacher = pipeline.model.build(self._task.signature)
        self._recipe = Recipe(epochs=1, learning_rate=0.05)
        self._runs = 0
        self.samples = len(self._task.splits["train"].inputs)
        modules = {"teacher": self._teacher.module, "student": self._built()}
        self.parameters = {name: sum(one.numel() for one in module.parameters()) for name, module in modules.items()}

    def of(self, name: str) -> Callable[[int], None]:
        """The epoch of that name."""
        return {NO_TEACHER: self.alone, CACHED: self.cached, LIVE: self.live}[name]

    def alone(self, _: int) -> None:
        """Labels only."""
        self._learn(None)

    def cached(self, _: int) -> None:
        """The store has the answers, from the second call on."""
        self._learn(Store(self._folder / "store"))

    def live(self, number: int) -> None:
        """An empty store."""
        self._learn(Store(self._folder / f"empty{number}"))

    def _built(self) -> torch.nn.Module:
        return self._student.build(self._task.signature, 0).module

    def _learn(self, store: Store | None) -> None:
        self._runs += 1
        teacher = None
        if store is not None:
            teacher = NetworkTeacher(self._teacher.module, architecture.digest(self._teacher), self._task, store)

        plain = context(self._folder / f"run{self._runs}", self._task)
        learn(self._built(), self._recipe, replace(plain, teacher=teacher), "distill")


def _timed(epoch: Callable[[int], None], number: int) -> float:
    begun = time.process_time()
    epoch(number)
    return round(time.process_time() - begun, 3)


def markdown(body: Mapping[str, Any]) -> str:
    """The table."""
    alone = np.array(body["seconds_by_round"][NO_TEACHER])
    lines = ["| an epoch with | seconds | times that without a teacher [95 %] |", "| --- | ---: | ---: |"]
    for name, found in body["seconds_by_round"].items():
        ratios = np.array(found) / alone
        told = "1" if name == NO_TEACHER else _interval(ratios)
        lines.append(f"| {name} | {np.median(found):.2f} | {told} |")
    parameters = body["parameters"]
    lines += [
        "",
        f"Processor seconds on one thread, {body['samples']:,} images; a teacher of {parameters['teacher']:,} and a "
        f"student of {parameters['student']:,} parameters; {len(alone)} interleaved rounds.",
    ]
    return "\n".join(lines)


def _interval(values: np.ndarray) -> str:
    mean = float(values.mean())
    if len(values) < 2:
        return f"{mean:.2f}"
    low, high = stats.t.interval(0.95, len(values) - 1, loc=mean, scale=stats.sem(values))
    return f"{mean:.2f} [{low:.2f}, {high:.2f}]"


if __name__ == "__main__":
    main()
