"""Builds the images, and tells how large they are."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from benchmarks.images.check import DOCKERFILES, GATE, RUN
from benchmarks.images.engine import ROOT, Engine, reference
from compresslab import __version__

BASE = "python:3.11-slim-bookworm"
TORCH_INDEX = "COMPRESSLAB_TORCH_INDEX"
"""The environment variable with the index that has the CPU build of torch, where pip is not configured for one."""
LABELS = "org.opencontainers.image"
NO_TORCH = "No matching distribution found for torch=="
"""What pip says where there is none."""
_MB = 1_000_000
# Of what the gate adds to its base; of the whole run image.
_LIMITS: Final = {GATE: 400 * _MB, RUN: 2000 * _MB}


@dataclass(frozen=True)
class Built:
    """An image. `added` is what it adds to its base; both in bytes."""

    image: str
    bytes: int
    added: int
    build_seconds: float

    @property
    def small_enough(self) -> bool:
        """Whether it keeps its limit, if it has one."""
        limit = _LIMITS.get(self.image)
        return limit is None or (self.added if self.image == GATE else self.bytes) <= limit


def build(engine: Engine) -> Iterator[Built]:
    """Builds one after the other.

    Raises:
        BuildFailed: One could not be built; with `NO_TORCH` in it where `TORCH_INDEX` would help.
    """
    # Not by arguments of the Dockerfile: buildah takes a layer for made when only an argument has changed.
    labels = {"version": __version__, "revision": revision()}
    for image, dockerfile in DOCKERFILES.items():
        begun = time.perf_counter()
        index = os.environ.get(TORCH_INDEX) if image == RUN else None
        arguments = {"TORCH_INDEX": index} if index else {}
        engine.build(image, dockerfile, arguments, {f"{LABELS}.{name}": value for name, value in labels.items()})
        seconds = round(time.perf_counter() - begun, 1)
        size = engine.size(reference(image))
        yield Built(image, size, size - engine.size(BASE), seconds)


def revision() -> str:
    """The commit, for the label; empty where this is no clone."""
    git = shutil.which("git")
    if git is None:
        return ""
    return subprocess.run([git, "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
