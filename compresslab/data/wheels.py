"""Files that a wheel carries, such as a model's: fetched by pip, unpacked, and neither installed nor run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from compresslab.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable

PREFIX = "pip:"
VARIABLE = "COMPRESSLAB_DATA"
TIMEOUT_S = 600.0
_REQUIREMENT = re.compile(r"(?P<wheel>[A-Za-z0-9][\w.-]*==[\w.!+-]+)(?P<inside>(/[\w.-]+)*)")


def packages_folder() -> Path:
    """Where packages are kept: `packages` in `$COMPRESSLAB_DATA`, else `runs/.packages`."""
    home = os.environ.get(VARIABLE)
    return Path(home) / "packages" if home else Path("runs") / ".packages"


def fetched_once(name: str, fetch: Callable[[Path], Path]) -> Path:
    """The folder that `fetch` makes in the scratch folder it is given: made once, and kept whole or not at all."""
    place = packages_folder() / re.sub(r"[^\w.=-]+", "_", name)
    if not place.is_dir():
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent, prefix=".fetching-") as scratch:
            made = fetch(Path(scratch))
            try:
                made.rename(place)
            except OSError:
                if not place.is_dir():  # another process was faster
                    raise
    return place


def wheel(requirement: str) -> Path:
    """The unpacked files of a wheel.

    Args:
        requirement: With its version, such as `gensim==4.4.0`: the same files every time.

    Raises:
        DataError: pip cannot fetch it.
    """
    return fetched_once(requirement, lambda scratch: _unzipped(_downloaded(requirement, scratch)))


def local_folder(source: str) -> str:
    """The folder that `pip:NAME==VERSION/FOLDER/INSIDE` stands for; any other source as it is.

    Raises:
        DataError: It is written otherwise, pip cannot fetch it, or there is no such folder in it.
    """
    if not source.startswith(PREFIX):
        return source
    found = _REQUIREMENT.fullmatch(source.removeprefix(PREFIX))
    if found is None:
        raise DataError(
            f"`{source}`: a wheel is named with its version and the folder inside it, as in "
            f"`{PREFIX}some-package==1.0.0/some_package/model`"
        )
    root = wheel(found["wheel"])
    folder = root / found["inside"].lstrip("/")
    if not folder.is_dir():
        there = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_dir())
        raise DataError(f"`{source}`: there is no such folder in the wheel; it has {', '.join(there)}")
    return str(folder)


def _downloaded(requirement: str, scratch: Path) -> Path:
    into = scratch / "download"
    command = [
        sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps",
        "--only-binary=:all:", "--dest", str(into), requirement,
    ]  # fmt: skip
    try:
        subprocess.run(  # noqa: S603 - words of our own, no shell
            command, check=True, timeout=TIMEOUT_S, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            errors="replace",
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise DataError(f"`{requirement}`: pip took more than {TIMEOUT_S:.0f} s") from error
    except subprocess.CalledProcessError as error:
        told = [line for line in error.stderr.splitlines() if line.startswith("ERROR")]
        raise DataError(
            f"`{requirement}`: pip cannot fetch it: {told[-1] if told else error}; where there is no package index, "
            "fetch and unpack it elsewhere, and give the folder"
        ) from error
    (file,) = into.iterdir()
    return file


def _unzipped(file: Path) -> Path:
    into = file.parent.parent / "unpacked"
    try:
        with zipfile.ZipFile(file) as packed:
            packed.extractall(into)  # zipfile takes the drives and the dots out of names
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{file.name}: cannot be unpacked ({error}); fetch it again") from error
    return into
