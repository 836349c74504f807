"""A file package from the machine's own Debian or Ubuntu archive, unpacked without root and without installing it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from compresslab.errors import DataError

TIMEOUT_S = 300.0


def unpack_debian_package(package: str, folder: Path) -> Path:
    """Downloads a package into `folder`, with apt's state private to it, and returns the root it unpacks to.

    The signatures of the archive are checked by apt as for an installation.

    Raises:
        DataError: There is no apt-get here, or it fails or takes more than five minutes.
    """
    apt, dpkg = shutil.which("apt-get"), shutil.which("dpkg")
    if apt is None or dpkg is None:
        raise DataError("this machine has no apt-get and dpkg")
    for part in ("lists/partial", "cache/archives/partial", "root"):
        (folder / part).mkdir(parents=True)
    folder = folder.resolve()  # the commands run inside it
    private = [
        apt, "-q",
        "-o", f"Dir::State::Lists={folder / 'lists'}", "-o", f"Dir::Cache={folder / 'cache'}",
        "-o", "APT::Sandbox::User=", "-o", "Debug::NoLocking=1",
    ]  # fmt: skip
    _run([*private, "update"], folder)
    _run([*private, "download", package], folder)
    packages = sorted(folder.glob(f"{package}_*.deb"))
    if not packages:
        raise DataError(f"apt-get download {package}: gave no file")
    _run([dpkg, "-x", str(packages[0]), str(folder / "root")], folder)
    return folder / "root"


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
