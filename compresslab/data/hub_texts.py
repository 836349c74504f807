"""A data set of texts of the Hugging Face hub, kept as `datasets` saves it: `python -m ... NAME FOLDER` fetches it.

Fetching is a process of its own: whatever the network libraries do, their caller can give up on it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

from compresslab.data.hf_saved import is_saved
from compresslab.errors import DataError
from compresslab.hub import reachable

TIMEOUT_S = 1800.0
_ELSEWHERE = "where there is no network, fetch it elsewhere, `save_to_disk` it, and give the folder by `datasets`"


def fetch_texts(name: str, cache: Path) -> Path:
    """The folder with a data set of this name, from the cache, or fetched into it whole.

    Args:
        name: As the hub has it, `owner/name`; with a configuration, `owner/name:configuration`.
        cache: Where it is kept.

    Raises:
        DataError: It cannot be fetched, or the cache cannot be written.
    """
    readable = re.sub(r"[^\w.-]+", "_", name)
    place = cache / "hub" / f"{readable}-{sha256(name.encode()).hexdigest()[:12]}"
    if is_saved(place):
        return place
    if find_spec("datasets") is None:
        raise DataError(f"{name}: fetching it needs the library `datasets` (pip install compresslab[data])")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".hub-", dir=place.parent, ignore_cleanup_errors=True) as scratch:
            files = Path(scratch, "files")
            _run(name, files)
            if not is_saved(place):  # else another process was faster, and its copy is as good
                shutil.rmtree(place, ignore_errors=True)
                files.replace(place)
    except OSError as error:
        raise DataError(f"{place.parent}: cannot be written: {error}") from error
    return place


def _run(name: str, files: Path) -> None:
    if not reachable():
        raise DataError(f"{name}: cannot be had from the Hugging Face hub, which cannot be reached; {_ELSEWHERE}")
    command = [sys.executable, "-m", __name__, name, str(files)]
    try:
        subprocess.run(  # noqa: S603 - words of our own and a name that only the library reads, no shell
            command, timeout=TIMEOUT_S, check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
    except subprocess.TimeoutExpired as error:
        raise DataError(f"{name}: fetching it from the Hugging Face hub took more than {TIMEOUT_S:.0f} s") from error
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines()
        raise DataError(
            f"{name}: cannot be had from the Hugging Face hub: "
            f"{lines[-1] if lines else f'ended with code {error.returncode}'}; {_ELSEWHERE}"
        ) from error


def main() -> None:
    """Fetches the data set that the first argument names into the folder that the second does."""
    from datasets import load_dataset

    name, _, configuration = sys.argv[1].partition(":")
    folder = Path(sys.argv[2])
    found = load_dataset(name, configuration or None, cache_dir=str(folder.with_name("downloads")))
    found.save_to_disk(str(folder))


if __name__ == "__main__":
    main()
