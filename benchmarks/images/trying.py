"""All checks, in their order, in one working folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from benchmarks.images.building import LABELS, revision
from benchmarks.images.check import DOCKERFILES, Check, Place, timed
from benchmarks.images.engine import ROOT, Engine
from benchmarks.images.gating import check_gate
from benchmarks.images.running import check_run
from benchmarks.images.serving import check_serve
from compresslab import __version__

# Somebody whom no image knows. Who is not root can only be himself.
_STRANGER = 54321


def checks(engine: Engine, folder: Path) -> Iterator[Check]:
    """CHECKS: compresses the quickstart in `folder`, which is made, gates what came out, and serves it.

    Raises:
        RuntimeError: A container ended before it came to what was to be tried.
        subprocess.CalledProcessError: The tool itself failed.
    """
    place = Place(engine, folder, (_STRANGER, _STRANGER) if os.getuid() == 0 else (os.getuid(), os.getgid()))
    (folder / "pipelines").mkdir(parents=True)
    shutil.copy(ROOT / "pipelines" / "quickstart.yaml", folder / "pipelines")
    for path in (folder, *folder.rglob("*")):
        os.chown(path, *place.owner)
    yield _labels(engine)
    yield from check_run(place)
    yield from check_gate(place)
    yield from check_serve(place)


def _labels(engine: Engine) -> Check:
    wanted = {f"{LABELS}.version": __version__, f"{LABELS}.revision": revision()}
    wrong = [
        f"{image}: {engine.labels(image)}"
        for image in DOCKERFILES
        if not wanted.items() <= engine.labels(image).items()
    ]
    return Check("labels, version and commit", "of what was built", "; ".join(wrong) or "of what was built", 0.0)


def starts(engine: Engine) -> Iterator[Check]:
    """That each image starts; no more."""
    options = ["--network", "none", "--entrypoint", "compresslab"]
    for image in DOCKERFILES:
        yield timed(f"{image} starts", "exit 0", partial(_started, engine, image, options))


def _started(engine: Engine, image: str, options: Sequence[str]) -> str:
    return f"exit {engine.run(image, ['--version'], options).returncode}"
