"""Starts MLServer and Triton on loopback and stops them again."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_LOOPBACK = "127.0.0.1"
_START_SECONDS = 60.0
_STOP_SECONDS = 15.0
_MEMORY = 12 << 30
"""Bytes of a server's own address space for data: whatever it is sent, it does not take the machine's memory."""


class ServerDied(Exception):
    """The server did not become ready; the message has the end of its log. `exit_code` is None if it still ran."""

    def __init__(self, message: str, exit_code: int | None) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True)
class Server:
    """A server that answers; `http` and `grpc` are `host:port`."""

    name: str
    http: str
    grpc: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self.process.poll() is None

    @property
    def ready(self) -> bool:
        """Whether it says that every model is ready."""
        try:
            with urllib.request.urlopen(f"http://{self.http}/v2/health/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False


def serve_python() -> Path | None:
    """The Python that has MLServer: $COMPRESSLAB_SERVE_PYTHON, or that of `make servers`; None if there is none."""
    return _python("COMPRESSLAB_SERVE_PYTHON", ".venv-serve")


def triton_python() -> Path | None:
    """The Python that has Triton and clients: $COMPRESSLAB_TRITON_PYTHON, or that of `make servers`; else None."""
    return _python("COMPRESSLAB_TRITON_PYTHON", ".venv-triton")


@contextmanager
def mlserver(python: Path, folder: Path, log: Path) -> Iterator[Server]:
    """MLServer on a folder that was exported for it, or on a bundle."""
    http, grpc, metrics = _free_ports(3)
    environment = {
        **_environment(),
        "MLSERVER_HOST": _LOOPBACK,
        "MLSERVER_HTTP_PORT": str(http),
        "MLSERVER_GRPC_PORT": str(grpc),
        "MLSERVER_METRICS_PORT": str(metrics),
    }
    command = [str(python), "-P", "-m", "compresslab.serving.mlserver_start", str(folder)]
    with _running("mlserver", command, environment, http, grpc, log) as server:
        yield server


@contextmanager
def triton(python: Path, repository: Path, log: Path) -> Iterator[Server]:
    """The Triton of nvidia-pytriton on a model repository; it has the Python backend only."""
    home = _triton_home(python)
    version = subprocess.run(
        [str(python), "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    backends = _backends(home, version, log.parent)
    http, grpc = _free_ports(2)
    # The backend's process finds numpy and onnxruntime where this Python has them.
    environment = {
        **_environment(),
        "PYTHONPATH": str(home.parents[1]),
        "PATH": f"{python.parent}:{os.environ['PATH']}",
    }
    command = [
        str(home / "bin" / "tritonserver"),
        f"--model-repository={repository}",
        f"--backend-directory={backends}",
        f"--http-address={_LOOPBACK}",
        f"--http-port={http}",
        f"--grpc-address={_LOOPBACK}",
        f"--grpc-port={grpc}",
        "--allow-metrics=false",
        "--disable-auto-complete-config",
        "--exit-timeout-secs=5",
    ]
    with _running("triton", command, environment, http, grpc, log) as server:
        yield server


@contextmanager
def _running(
    name: str, command: Sequence[str], environment: dict[str, str], http: int, grpc: int, log: Path
) -> Iterator[Server]:
    with log.open("wb") as file:
        # A session of its own: the backend's processes end with the server's.
        process = subprocess.Popen(
            command,
            stdout=file,
            stderr=file,
            env=environment,
            cwd=log.parent,
            start_new_session=True,
            preexec_fn=_limit_memory,
        )
        server = Server(name, f"{_LOOPBACK}:{http}", f"{_LOOPBACK}:{grpc}", process, log)
        try:
            _await(server)
            yield server
        finally:
            _stop(process)


def _limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, _MEMORY))


def _await(server: Server) -> None:
    until = time.monotonic() + _START_SECONDS
    while not server.ready:
        if not server.alive or time.monotonic() > until:
            lines = server.log.read_text(encoding="utf-8", errors="replace").splitlines()
            text = "\n".join(line for line in lines if not line.startswith(("|", "+")))  # Triton's tables
            raise ServerDied(f"{server.name} did not become ready:\n{text[-6000:]}", server.process.poll())
        time.sleep(0.1)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _python(variable: str, folder: str) -> Path | None:
    given = os.environ.get(variable)
    place = Path(given) if given else ROOT / folder / "bin" / "python"
    return place if place.is_file() else None


def _environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MLSERVER_")}
    return {**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def _free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago; held together, so that they differ."""
    held = [socket.socket() for _ in range(count)]
    try:
        for one in held:
            one.bind((_LOOPBACK, 0))
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()


def _triton_home(python: Path) -> Path:
    (home,) = python.parents[1].glob("lib/python*/site-packages/pytriton/tritonserver")
    return home


def _backends(home: Path, version: str, folder: Path) -> Path:
    """The wheel's Python backend with the stub for this Python beside it, where the server looks for it."""
    made = folder / "backends" / "python"
    if not made.is_dir():
        made.mkdir(parents=True)
        for file in [*(home / "backends" / "python").iterdir(), *(home / "python_backend_stubs" / version).iterdir()]:
            (made / file.name).symlink_to(file)
    return made.parent
