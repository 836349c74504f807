"""A file package from the machine's own Debian or Ubuntu archive, unpacked without root and without installing it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from compresslab.errors import DataError

TIMEOUT_S = 300.0


def fetch_debian_index(folder: Path) -> Path:
    """Fetches what the archive has into `folder`, apt's state that is private to it, and returns it.

    Its `lists` have the packages, whose signatures apt checks as for an installation, and their English descriptions.

    Raises:
        DataError: There is no apt-get here, or it fails or takes more than five minutes.
    """
    for part in ("lists/partial", "cache/archives/partial"):
        (folder / part).mkdir(parents=True)
    _run([*_apt(folder), "update"], folder)
    return folder


def unpack_debian_package(package: str, folder: Path, index: Path | None = None) -> Path:
    """Downloads a package into `folder` and returns the root it unpacks to.

    Args:
        package: Its name.
        folder: In which nothing is yet.
        index: What `fetch_debian_index` gave, where several packages are wanted; None fetches it for this one.

    Raises:
        DataError: There is no apt-get or dpkg here, or one fails or takes more than five minutes.
    """
    dpkg = shutil.which("dpkg")
    if shutil.which("apt-get") is None or dpkg is None:
        raise DataError("this machine has no apt-get and dpkg")
    (folder / "root").mkdir(parents=True)
    folder = folder.resolve()  # the commands run inside it
    index = fetch_debian_index(folder / "index") if index is None else index
    _run([*_apt(index), "download", package], folder)
    packages = sorted(folder.glob(f"{package}_*.deb"))
    if not packages:
        raise DataError(f"apt-get download {package}: gave no file")
    _run([dpkg, "-x", str(packages[0]), str(folder / "root")], folder)
    return folder / "root"


def _apt(index: Path) -> list[str]:
    apt = shutil.which("apt-get")
    if apt is None:
        raise DataError("this machine has no apt-get")
    index = index.resolve()  # apt takes what is relative to be below its own folders
    private = {
        "Dir::State::Lists": index / "lists", "Dir::Cache": index / "cache", "APT::Sandbox::User": "",
        "Debug::NoLocking": 1, "Acquire::Languages": "en", "Acquire::GzipIndexes": "false",
    }  # fmt: skip
    return [apt, "-q", *(part for name, value in private.items() for part in ("-o", f"{name}={value}"))]


def _run(command: list[str], folder: Path) -> None:
    name = f"{Path(command[0]).name} {next(word for word in command if word in ('update', 'download', '-x'))}"
    try:
        subprocess.run(  # noqa: S603 - words of our own, no shell
            command, cwd=folder, env={**os.environ, "LC_ALL": "C"}, timeout=TIMEOUT_S, check=True,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise DataError(f"{name}: took more than {TIMEOUT_S:.0f} s") from error
    except subprocess.CalledProcessError as error:
        lines = (error.stderr or error.stdout or "").strip().splitlines()
        raise DataError(f"{name}: {lines[-1] if lines else f'ended with code {error.returncode}'}") from error
    except OSError as error:
        raise DataError(f"{name}: {error}") from error
