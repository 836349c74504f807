"""What the gate's benchmark measures: models calibrated to be slower by so much, and their raw processes on disk.

Everything is kept under runs/gate_quality, so that an interrupted benchmark goes on where it stopped.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.competing_load import competing_load
from benchmarks.gate_models import write_model
from compresslab.measure.bench import BenchPoint, BenchSettings, measuring_processes
from compresslab.measure.gate import process_settings
from compresslab.measure.gate_budget import GateBudget
from compresslab.measure.gate_latency import latency_limits
from compresslab.measure.onnx_file import onnx_subject
from compresslab.measure.samples import LatencySamples
from compresslab.measure.samples_file import read_samples, write_samples

BUDGET = GateBudget.model_validate({"p50_slower": 0.05, "p90_slower": 0.05})
BASE = "base"
NOMINAL = {"same": 0.0, "3 % slower": 0.03, "10 % slower": 0.10, "20 % slower": 0.20}
TAIL = "slow tail"
VARIANTS = (*NOMINAL, TAIL)
_TAIL_SLOWER = 0.30
_TRIED = 40
_SAVE_EVERY = 10


@dataclass(frozen=True)
class Condition:
    """What else runs on the machine."""

    name: str
    cores: tuple[int, ...]

    def load(self) -> AbstractContextManager[None]:
        """The neighbours, for the time of a block."""
        return competing_load(self.cores)


def conditions() -> tuple[Condition, ...]:
    """Nothing; a load on one core; a load on every core, which is more than the machine has room for."""
    cores = sorted(os.sched_getaffinity(0))
    return Condition("quiet", ()), Condition("load on one core", (cores[-1],)), Condition("load on all", tuple(cores))


@dataclass(frozen=True)
class Process:
    """One recorded process: nanoseconds [rounds, calls] of the variant and of the base, and what it took."""

    variant: np.ndarray
    base: np.ndarray
    seconds: float


class Recordings:
    """The models and recordings of one folder."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self.folder = folder
        self._say = say

    def model(self, name: str) -> Path:
        """The ONNX file of a variant, or of the base."""
        return self.folder / "models" / f"{name.replace(' ', '_').replace('%', 'percent')}.onnx"

    def make_models(self) -> dict[str, int]:
        """Writes all models; returns how many extra convolutions each has, found by timing one of forty."""
        kept = self.folder / "models" / "extra.json"
        if kept.is_file():
            found: dict[str, int] = json.loads(kept.read_text(encoding="utf-8"))
            return found
        base, tried = write_model(self.model(BASE)), write_model(self.model("tried"), extra=_TRIED)
        one = write_model(self.model("one"), extra=1)
        settings = BenchSettings(points=(BenchPoint(),), processes=1, min_seconds=0.5, min_count=100)
        subjects = [onnx_subject(path, [1], {}) for path in (base, one, tried)]
        with measuring_processes(subjects, settings) as process:
            medians = np.median([[np.median(times) for times in process(number)[0]] for number in range(5)], axis=0)
        each = (medians[2] - medians[1]) / (_TRIED - 1)
        extra = {name: self._extra(share, medians, each) for name, share in NOMINAL.items()}
        extra[TAIL] = self._extra(_TAIL_SLOWER, medians, each)
        for name, count in extra.items():
            write_model(self.model(name), **({"tail": count} if name == TAIL else {"extra": count}))
        kept.write_text(json.dumps(extra), encoding="utf-8")
        self._say(f"extra convolutions: {extra}")
        return extra

    @staticmethod
    def _extra(share: float, medians: np.ndarray, each: float) -> int:
        base, one, _ = medians
        return max(1, round(1 + (base * (1.0 + share) - one) / each)) if share else 0

    def record(self, variant: str, condition: Condition, processes: int) -> list[Process]:
        """The processes of a variant beside the base; those that are not there yet are measured, and kept."""
        name = f"{variant} {condition.name}".replace(" ", "_").replace("%", "percent")
        file, times = self.folder / f"{name}.npz", self.folder / f"{name}.json"
        found: list[Process] = []
        if file.is_file() and times.is_file():
            seconds = json.loads(times.read_text(encoding="utf-8"))
            ours, base = read_samples(file)[0]
            found = [Process(*one) for one in zip(ours.processes, base.processes, seconds, strict=False)]
        if len(found) >= processes:
            return found[:processes]
        subjects = [onnx_subject(self.model(one), [1], {}) for one in (variant, BASE)]
        settings = process_settings(BUDGET, latency_limits(BUDGET))
        with condition.load(), measuring_processes(subjects, settings) as process:
            while len(found) < processes:
                begun = time.perf_counter()
                ((this, base_times),) = process(len(found))
                found.append(Process(this, base_times, time.perf_counter() - begun))
                if len(found) % _SAVE_EVERY == 0 or len(found) == processes:
                    pair = [LatencySamples(tuple(getattr(one, key) for one in found)) for key in ("variant", "base")]
                    write_samples(file, [pair])
                    times.write_text(json.dumps([one.seconds for one in found]), encoding="utf-8")
        self._say(f"recorded {variant}, {condition.name}: {sum(one.seconds for one in found):.0f} s")
        return found
