"""The serve image on a bundle: it answers as ONNX Runtime does, ends when told to, and refuses what was changed."""

from __future__ import annotations

import json
import shutil
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.images.check import SERVE, Check, Place, timed
from benchmarks.images.engine import Engine
from compresslab.measure.artifact import Artifact, load_artifact
from compresslab.measure.session import open_session

_PATIENCE_S = 120.0
_NEAR = 1e-5
_SAME = "as ONNX Runtime's"


def check_serve(place: Place) -> Iterator[Check]:
    """Needs the finished run; its bundle is mounted."""
    engine, bundle, port = place.engine, place.run / "selected", _free_port()
    artifact = load_artifact(bundle)
    ((graph, info),) = artifact.manifest.graphs.items()
    shape = (3, *(int(size) for size in info.inputs[0].shape[1:]))
    images = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    with engine.running(SERVE, [], _options(place, bundle, port)) as container:
        yield timed("serve, ready", "status 200", lambda: _ready(engine, container, port))
        yield timed("serve, its health check", "exit 0", lambda: _healthy(engine, container))
        same = partial(_compared, port, artifact, graph, images)
        yield timed("serve, outputs", _SAME, same)
        status, _ = _infer(port, info.inputs[0].name, images[:, :, :-1])
        yield Check("serve, a wrong shape", f"status 400, then {_SAME}", f"status {status}, then {same()}", 0.0)
        seconds = engine.stop(container)
        yield Check("serve, stopped by SIGTERM", "exit 0", f"exit {engine.exit_code(container)}", seconds)
    yield timed("serve, a tampered bundle", "exit 2, it names the file", lambda: _tampered(place, bundle))


def _tampered(place: Place, bundle: Path) -> str:
    copy = place.folder / "tampered"
    shutil.copytree(bundle, copy)
    (graph,) = copy.glob("*.onnx")
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(content)
    options = _options(place, copy, _free_port())
    ended = place.engine.run(SERVE, [], options, timeout=_PATIENCE_S)
    return f"exit {ended.returncode}, {'it names the file' if graph.name in ended.stderr else ended.stderr}"


def _healthy(engine: Engine, container: str) -> str:
    command = engine.health_check(SERVE)
    return f"exit {engine.call('exec', container, *command).returncode}" if command else "there is none"


def _options(place: Place, bundle: Path, port: int) -> list[str]:
    """On the host's loopback: a container's own network is not to be had everywhere."""
    environment = {
        "MLSERVER_HOST": "127.0.0.1",
        "MLSERVER_HTTP_PORT": port,
        "MLSERVER_GRPC_PORT": _free_port(),
        "MLSERVER_METRICS_PORT": _free_port(),
    }
    given = [word for key, value in environment.items() for word in ("-e", f"{key}={value}")]
    return ["--network", "host", *place.user(), "-v", f"{bundle}:/model:ro", *given]


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def _ready(engine: Engine, container: str, port: int) -> str:
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        with suppress(OSError, HTTPException):
            status, _ = _ask(port, "GET", "/v2/health/ready")
            if status == 200:  # before the model is loaded it is another one
                return f"status {status}"
        if engine.exit_code(container) is not None:
            break
        time.sleep(0.1)
    return "\n".join(["it did not become ready", *engine.logs(container)])


def _compared(port: int, artifact: Artifact, graph: str, images: np.ndarray) -> str:
    info = artifact.manifest.graphs[graph]
    status, answer = _infer(port, info.inputs[0].name, images)
    if status != 200:
        return f"status {status}: {answer}"
    session = open_session(artifact.graphs[graph], artifact.manifest.session, 1)
    (expected,) = session.run(None, {info.inputs[0].name: images})
    (output,) = answer["outputs"]
    served = np.asarray(output["data"], np.float32).reshape(output["shape"])
    difference = float(np.abs(served - expected).max())
    return _SAME if difference <= _NEAR * float(np.abs(expected).max()) else f"{difference:.3g} off"


def _infer(port: int, tensor: str, images: np.ndarray) -> tuple[int, Mapping[str, Any]]:
    given = {"name": tensor, "shape": list(images.shape), "datatype": "FP32", "data": images.ravel().tolist()}
    return _ask(port, "POST", "/v2/models/quickstart/infer", {"inputs": [given]})


def _ask(port: int, method: str, path: str, body: Mapping[str, Any] | None = None) -> tuple[int, Mapping[str, Any]]:
    server = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        text = None if body is None else json.dumps(body)
        server.request(method, path, text, {"Content-Type": "application/json"})
        response = server.getresponse()
        content = response.read()
        return response.status, json.loads(content) if content else {}
    finally:
        server.close()
