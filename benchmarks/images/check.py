"""What a check of the images is, and which there are."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.images.engine import Engine

RUN, GATE, SERVE = "compresslab", "compresslab-gate", "compresslab-serve"
DOCKERFILES: Final = {RUN: "docker/Dockerfile", GATE: "docker/gate.Dockerfile", SERVE: "docker/serve.Dockerfile"}
CHECKS: Final = (
    "labels, version and commit",
    "run, stopped by SIGTERM",
    "run, the same command again",
    "run --log json",
    "run, owners of what it left",
    "run, a misspelt key",
    "gate, within",
    "gate, over",
    "gate, undecidable",
    "gate, torch or onnx in it",
    "serve, ready",
    "serve, its health check",
    "serve, outputs",
    "serve, a wrong shape",
    "serve, stopped by SIGTERM",
    "serve, a tampered bundle",
)


@dataclass(frozen=True)
class Check:
    """One promise. `seconds` is how long it took; of a container that was told to stop, until it had."""

    name: str
    expected: str
    found: str
    seconds: float

    @property
    def kept(self) -> bool:
        """Whether what was found is what was expected."""
        return self.found == self.expected


@dataclass(frozen=True)
class Place:
    """The caller's working folder, mounted as /data, and who the caller is: (user, group)."""

    engine: Engine
    folder: Path
    owner: tuple[int, int]

    @property
    def run(self) -> Path:
        """The run directory."""
        return self.folder / "runs" / "quickstart"

    def options(self, *, writable: bool) -> list[str]:
        """As the caller, without network, on the mounted folder; one thread, which a busy machine slows down least."""
        mounted = f"{self.folder}:/data{'' if writable else ':ro'}"
        return ["--network", "none", *self.user(), "-e", "OMP_NUM_THREADS=1", "-v", mounted]

    def user(self) -> list[str]:
        """As the caller."""
        return ["--user", f"{self.owner[0]}:{self.owner[1]}"]


def timed(name: str, expected: str, found: Callable[[], str]) -> Check:
    """The check with the seconds that finding takes."""
    begun = time.perf_counter()
    answer = found()
    return Check(name, expected, answer, round(time.perf_counter() - begun, 1))
