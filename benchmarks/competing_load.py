"""A neighbour that takes a core in bursts: `python -m benchmarks.competing_load CORE` until it is ended."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np


@contextmanager
def competing_load(cores: Sequence[int]) -> Iterator[None]:
    """One neighbour a core for the time of the block."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.competing_load"]
    running = [subprocess.Popen([*command, str(core)], env=environment) for core in cores]
    try:
        time.sleep(0.5 if running else 0.0)
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def main() -> None:
    """Bursts of arithmetic and of memory traffic, of 50 to 600 ms, with pauses."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(sys.argv[1])})
    rng = np.random.default_rng(int(sys.argv[1]))
    matrix, memory = np.ones((400, 400)), np.zeros(8_000_000)
    while True:
        end = time.monotonic() + rng.uniform(0.05, 0.6)
        while time.monotonic() < end:
            matrix @ matrix
            memory += 1.0
        time.sleep(rng.uniform(0.02, 0.4))


if __name__ == "__main__":
    main()
