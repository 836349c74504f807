"""Many clients of one model at once, in a process of their own, and what they found."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from benchmarks.servers.processes import Server
from compresslab.measure.artifact import Artifact
from compresslab.measure.session import open_session

Arrays = Mapping[str, npt.NDArray[np.generic]]
_CLIENT = Path(__file__).with_name("client.py")


@dataclass(frozen=True)
class Load:
    """What a number of clients found. `errors` are the messages of requests that were not answered."""

    requests: int
    seconds: float
    errors: tuple[str, ...]
    largest_difference: float
    milliseconds: tuple[float, ...]

    def percentile(self, percent: float) -> float | None:
        """Of the milliseconds that a request took; None where none was answered."""
        return round(float(np.percentile(self.milliseconds, percent)), 4) if self.milliseconds else None


def outputs(artifact: Artifact, graph: str, inputs: Arrays) -> Arrays:
    """What ONNX Runtime gives, by name: the truth that servers are compared with."""
    session = open_session(artifact.graphs[graph], artifact.manifest.session, 1)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def load(
    python: Path,
    server: Server,
    model: str,
    inputs: Arrays,
    expected: Arrays,
    folder: Path,
    *,
    protocol: Literal["http", "grpc"],
    clients: int,
    seconds: float,
    rows: int = 1,
) -> Load:
    """Runs clients until the time is over; each sends at least one request.

    Args:
        python: Has tritonclient.
        server: Where to.
        model: Its name on the server.
        inputs: Rows to send, by the input's name.
        expected: The answers, by the output's name; empty to compare with nothing.
        folder: For the files that are exchanged.
        protocol: HTTP carries binary tensors where the server takes them, else JSON.
        clients: Threads, each with a connection of its own.
        seconds: For so long.
        rows: Examples a request.
    """
    arrays = {f"input:{name}": array for name, array in inputs.items()}
    arrays |= {f"output:{name}": array for name, array in expected.items()}
    np.savez(folder / "arrays.npz", allow_pickle=False, **arrays)
    job = {
        "arrays": str(folder / "arrays.npz"),
        "output": str(folder / "found.json"),
        "url": server.http if protocol == "http" else server.grpc,
        "binary": server.name == "triton",
        "protocol": protocol,
        "model": model,
        "clients": clients,
        "seconds": seconds,
        "rows": rows,
    }
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    # -P: the modules beside the client are not its own.
    command = [str(python), "-P", str(_CLIENT), str(folder / "job.json")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode != 0 or "Traceback" in ended.stderr:
        raise RuntimeError(f"the clients of {server.name} died:\n{ended.stderr[-2000:]}")
    found = json.loads((folder / "found.json").read_text(encoding="utf-8"))
    return Load(
        found["requests"],
        found["seconds"],
        tuple(found["errors"]),
        found["largest_difference"],
        tuple(found["milliseconds"]),
    )
