"""Which container tool is taken, and how it is called; the tools are shell scripts here."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.images.building import Built
from benchmarks.images.check import GATE, RUN, SERVE
from benchmarks.images.engine import VARIABLE, BuildFailed, Engine, find_engine


def script(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def test_the_folder_of_the_environment_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tmp_path / "bin" / "docker", "exit 0")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv(VARIABLE, str(tmp_path / "own"))
    found = find_engine()
    assert found is not None
    assert (found.tool, found.builder) == ((str(tmp_path / "own" / "podman"),), tmp_path / "own" / "build")


@pytest.mark.parametrize(
    ("docker", "podman", "expected"), [(0, 0, "docker"), (1, 0, "podman"), (None, 0, "podman"), (1, None, None)]
)
def test_a_tool_without_its_engine_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, docker: int | None, podman: int | None, expected: str | None
) -> None:
    """Many machines have the command `docker` and no engine for it."""
    (tmp_path / "bin").mkdir()
    for name, code in (("docker", docker), ("podman", podman)):
        if code is not None:
            script(tmp_path / "bin" / name, f'[ "$1" = info ] && exit {code}')
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv(VARIABLE, raising=False)
    found = find_engine()
    assert (None if found is None else found.name) == expected


def test_a_container_is_closed_and_removed_whatever_happens(tmp_path: Path) -> None:
    log = tmp_path / "log"
    engine = Engine("a script", (str(script(tmp_path / "tool", f'echo "$@" >> {log}')),))
    with (
        pytest.raises(RuntimeError, match="the block"),
        engine.running("image", ["run"], ["--network", "none"]) as name,
    ):
        raise RuntimeError("the block")
    started, removed = log.read_text().splitlines()
    for option in ("--read-only", "--tmpfs /tmp", "--cap-drop ALL", "--security-opt no-new-privileges"):
        assert option in started
    assert started.endswith("--network none localhost/image run")
    assert removed == f"rm -f {name}"


def test_building_is_told_the_file_and_the_arguments(tmp_path: Path) -> None:
    log = tmp_path / "log"
    tool = script(tmp_path / "tool", f'echo "$@" >> {log}')
    Engine("a script", (str(tool),)).build("image", "docker/x", {"A": "1"}, {"x.y": "2"})
    Engine("a script", ("not called",), tool).build("image", "docker/x", {"A": "1"}, {"x.y": "2"})
    assert log.read_text().splitlines() == [
        "build --build-arg A=1 --label x.y=2 -t localhost/image -f docker/x .",
        "image docker/x . --build-arg A=1 --label x.y=2",
    ]


@pytest.mark.parametrize(
    ("shown", "command"),
    [
        ('[{"Config": {"Healthcheck": {"Test": ["CMD", "python", "-V"]}}}]', ["python", "-V"]),
        ('[{"Config": {}, "Healthcheck": {"Test": ["CMD", "python", "-V"]}}]', ["python", "-V"]),
        ('[{"Config": {}}]', []),
    ],
)
def test_the_health_check_is_found_where_docker_and_podman_have_it(
    tmp_path: Path, shown: str, command: list[str]
) -> None:
    tool = script(tmp_path / "tool", f"echo '{shown}'")
    assert Engine("a script", (str(tool),)).health_check("image") == command


def test_a_build_that_fails_says_what_the_tool_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tool = script(tmp_path / "tool", "echo on stdout; echo on stderr >&2; exit 3")
    with pytest.raises(BuildFailed, match="on stdout\non stderr\n"):
        Engine("a script", (str(tool),)).build("image", "docker/x")
    assert capfd.readouterr().err == "on stdout\non stderr\n"


@pytest.mark.parametrize(
    ("built", "small"),
    [
        (Built(GATE, 600_000_000, 400_000_000, 1.0), True),
        (Built(GATE, 500_000_000, 400_000_001, 1.0), False),
        (Built(RUN, 2_000_000_000, 1_900_000_000, 1.0), True),
        (Built(RUN, 2_000_000_001, 1, 1.0), False),
        (Built(SERVE, 9_000_000_000, 9_000_000_000, 1.0), True),
    ],
)
def test_limits_of_sizes(built: Built, small: bool) -> None:
    assert built.small_enough is small
