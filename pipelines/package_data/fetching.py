"""Fetches a package and unpacks it: once, whole or not at all."""

from __future__ import annotations

import atexit
import shutil
import subprocess
import sys
import tarfile
import tempfile
from functools import cache
from pathlib import Path

from compresslab.data.debian import fetch_debian_index, unpack_debian_package
from compresslab.wheels import fetched_once

_TIMEOUT_S = 600


def source_distribution(requirement: str) -> Path:
    """The unpacked files of a source distribution; pip runs its set-up code to read its name."""
    return fetched_once(f"{requirement}-source", lambda scratch: _untarred(_pip_source(requirement, scratch)))


def npm_package(name: str) -> Path:
    """The unpacked files of an npm package, such as `emojibase-data@17.0.0`; none of its scripts is run."""
    return fetched_once(name, lambda scratch: _untarred(_npm(name, scratch)))


def debian_package(name: str) -> Path:
    """The root that a Debian package unpacks to."""
    return fetched_once(f"debian-{name}", lambda scratch: unpack_debian_package(name, scratch / "apt", _index()))


def debian_descriptions() -> Path:
    """The file with the English descriptions of all of Debian's packages."""
    return fetched_once("debian-descriptions", _descriptions) / "Translation-en"


def _pip_source(requirement: str, scratch: Path) -> Path:
    into = scratch / "download"
    options = ["--no-deps", "--no-binary=:all:", "--dest", str(into)]
    _run([sys.executable, "-m", "pip", "download", "-q", *options, requirement])
    (file,) = into.iterdir()
    return file


def _npm(name: str, scratch: Path) -> Path:
    _run([_program("npm"), "pack", "--silent", "--ignore-scripts", "--pack-destination", str(scratch), name])
    (file,) = scratch.glob("*.tgz")
    return file


def _descriptions(scratch: Path) -> Path:
    largest = max((_index() / "lists").glob("*_Translation-en"), key=lambda path: path.stat().st_size)
    found = scratch / "found"
    found.mkdir()
    shutil.copyfile(largest, found / "Translation-en")
    return found


@cache
def _index() -> Path:
    """What Debian's archive has: fetched when a process first needs it, for all packages, and gone with the process."""
    place = Path(tempfile.mkdtemp(prefix="package-data-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    return fetch_debian_index(place)


def _untarred(file: Path) -> Path:
    into = file.parent / "unpacked"
    with tarfile.open(file) as packed:
        packed.extractall(into, filter="data")
    return into


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise OSError(f"this machine has no {name}, which fetches the data of this pipeline")
    return found


def _run(command: list[str]) -> None:
    try:
        subprocess.run(  # noqa: S603 - words of our own, no shell
            command, check=True, timeout=_TIMEOUT_S, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            errors="replace",
        )  # fmt: skip
    except subprocess.CalledProcessError as error:
        lines = (error.stderr or error.stdout or "").strip().splitlines()
        raise OSError(f"{' '.join(command[:3])} ... {command[-1]}: {lines[-1] if lines else error}") from error
