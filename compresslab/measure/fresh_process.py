"""Runs a measuring module in a process of its own, which loads nothing of the one that asks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import compresslab.measure
from compresslab.errors import BenchmarkFailed


def run_fresh(module: str, job: Mapping[str, Any], what: str, limit_seconds: float) -> None:
    """Runs `python -m module` with the job as JSON on its standard input, until it has ended.

    Args:
        module: Of this package.
        job: Plain data; also says where the answer goes.
        what: Is measured, for messages.
        limit_seconds: The process is ended after so long.

    Raises:
        BenchmarkFailed: It died or did not come back.
    """
    # -P: what lies in the working directory must not shadow numpy; the package may not be installed at all.
    package = str(Path(compresslab.measure.__path__[0]).parents[1])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OPENBLAS_NUM_THREADS": "1"}
    try:
        ended = subprocess.run(  # noqa: S603 - words of our own, no shell
            [sys.executable, "-P", "-m", module],
            input=json.dumps(job),
            capture_output=True,
            text=True,
            errors="replace",
            env=environment,
            timeout=limit_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BenchmarkFailed(
            f"measuring {what} did not end within {limit_seconds:.0f} s; the machine is overloaded, or the model hangs"
        ) from error
    if ended.returncode != 0:
        raise BenchmarkFailed(
            f"the process that measured {what} died ({_cause(ended.returncode)}); its last words: "
            f"{ended.stderr.strip()[-1500:] or 'none'}"
        )


def _cause(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    hint = ", perhaps out of memory" if -code == signal.SIGKILL else ""
    return f"{signal.Signals(-code).name}{hint}"
