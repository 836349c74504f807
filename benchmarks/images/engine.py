"""The container tool of this machine: docker, podman, or a folder with commands `build` and `podman`.

`COMPRESSLAB_CONTAINERS` names such a folder, for machines on which plain `docker build` does not do: `build IMAGE
DOCKERFILE CONTEXT [FLAGS]` makes `localhost/IMAGE`, and `podman` is called as podman is.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

VARIABLE = "COMPRESSLAB_CONTAINERS"
ROOT = Path(__file__).parents[2]
# The tool answers at once or not at all.
_ANSWERS_S = 60.0
_PULLED_S = 600.0
_TOLD_LINES = 50


class BuildFailed(Exception):
    """An image could not be built; the message is the end of what the tool said."""


@dataclass(frozen=True)
class Engine:
    """A tool that builds and runs images. `tool` is the command for all but building; `builder` for that."""

    name: str
    tool: tuple[str, ...]
    builder: Path | None = None

    def build(
        self,
        image: str,
        dockerfile: str,
        arguments: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Builds an image of the repository; what the tool says goes to stderr.

        Raises:
            BuildFailed: It could not be built.
        """
        given = [word for name, value in (arguments or {}).items() for word in ("--build-arg", f"{name}={value}")]
        given += [word for name, value in (labels or {}).items() for word in ("--label", f"{name}={value}")]
        if self.builder is not None:
            command = [str(self.builder), image, dockerfile, ".", *given]
        else:
            command = [*self.tool, "build", *given, "-t", reference(image), "-f", dockerfile, "."]
        told: deque[str] = deque(maxlen=_TOLD_LINES)
        with subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            for line in process.stdout or ():
                sys.stderr.write(line)
                told.append(line)
        if process.returncode != 0:
            raise BuildFailed("".join(told))

    def has(self, image: str) -> bool:
        """Whether an image is here, or can be pulled; the name is complete."""
        if self.call("image", "inspect", image).returncode == 0:
            return True
        return self.call("pull", image, timeout=_PULLED_S).returncode == 0

    def size(self, image: str) -> int:
        """What an image takes, in bytes, with all its layers; the name is complete."""
        if not self.has(image):  # a builder of its own may not keep the base
            raise BuildFailed(f"{image} is not here, and cannot be pulled")
        return int(self.call("image", "inspect", "--format", "{{.Size}}", image, check=True).stdout)

    def run(
        self, image: str, arguments: Sequence[str], options: Sequence[str] = (), *, timeout: float = 1800.0
    ) -> subprocess.CompletedProcess[str]:
        """Runs a container to its end; `--read-only`, without capabilities, with /tmp in memory."""
        return self.call("run", "--rm", *_CLOSED, *options, reference(image), *arguments, timeout=timeout)

    @contextmanager
    def running(self, image: str, arguments: Sequence[str], options: Sequence[str] = ()) -> Iterator[str]:
        """A container in the background, by its name; removed at the end of the block."""
        name = f"compresslab-{uuid4().hex[:12]}"
        self.call("run", "-d", "--name", name, *_CLOSED, *options, reference(image), *arguments, check=True)
        try:
            yield name
        finally:
            self.call("rm", "-f", name)

    def stop(self, container: str) -> float:
        """Sends SIGTERM, and SIGKILL (exit code 137) after the 10 s that docker gives; the seconds that it took."""
        begun = time.perf_counter()
        self.call("stop", "--time", "10", container)
        return round(time.perf_counter() - begun, 1)

    def logs(self, container: str) -> list[str]:
        """What the container wrote to stdout, then to stderr."""
        shown = self.call("logs", container, check=True)
        return [*shown.stdout.splitlines(), *shown.stderr.splitlines()]

    def labels(self, image: str) -> dict[str, str]:
        """The labels of an image."""
        return dict(self._shown(image)["Config"].get("Labels") or {})

    def health_check(self, image: str) -> list[str]:
        """The command of an image's HEALTHCHECK; empty without one."""
        shown = self._shown(image)
        # docker has it in the configuration, podman beside it.
        health = shown["Config"].get("Healthcheck") or shown.get("Healthcheck") or {}
        return list(health.get("Test", ["CMD"]))[1:]

    def _shown(self, image: str) -> dict[str, Any]:
        (shown,) = json.loads(self.call("image", "inspect", reference(image), check=True).stdout)
        return dict(shown)

    def wait(self, container: str, timeout: float = 1800.0) -> int:
        """Waits until a container has ended; its exit code."""
        return int(self.call("wait", container, check=True, timeout=timeout).stdout)

    def exit_code(self, container: str) -> int | None:
        """How a container ended; None while it runs."""
        shown = self.call("inspect", "--format", "{{.State.Running}} {{.State.ExitCode}}", container, check=True).stdout
        running, code = shown.split()
        return None if running == "true" else int(code)

    def call(
        self, *arguments: str, check: bool = False, timeout: float = _ANSWERS_S
    ) -> subprocess.CompletedProcess[str]:
        """Any other command of the tool, its output as text."""
        return subprocess.run([*self.tool, *arguments], capture_output=True, text=True, check=check, timeout=timeout)


_CLOSED = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")  # noqa: S108


def reference(image: str) -> str:
    """An image of ours as the tool is to find it: here, not in a registry."""
    return f"localhost/{image}"


def find_engine() -> Engine | None:
    """The folder that the environment names, or docker, or podman; None where nothing answers: see `NONE_FOUND`."""
    folder = os.environ.get(VARIABLE)
    if folder:
        return Engine(f"the commands in {VARIABLE}", (str(Path(folder, "podman")),), Path(folder, "build"))
    for name in ("docker", "podman"):
        tool = shutil.which(name)
        if tool is not None and _answers(tool):
            return Engine(name, (tool,))
    return None


NONE_FOUND = f"neither docker nor podman answers, and {VARIABLE} names no folder with commands `build` and `podman`"


def _answers(tool: str) -> bool:
    with suppress(OSError, subprocess.TimeoutExpired):
        return subprocess.run([tool, "info"], capture_output=True, timeout=_ANSWERS_S).returncode == 0
    return False
