"""What can be told of the Dockerfiles and the compose file without building anything."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from packaging.requirements import Requirement

from benchmarks.document import load
from benchmarks.images.__main__ import markdown
from benchmarks.images.check import CHECKS, DOCKERFILES
from compresslab.cli.app import app

ROOT = Path(__file__).parents[2]
TEXTS = {name: (ROOT / file).read_text(encoding="utf-8") for name, file in DOCKERFILES.items()}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def requirements(*extras: str) -> subprocess.CompletedProcess[str]:
    script = ROOT / "docker" / "requirements.py"
    return subprocess.run([sys.executable, str(script), *extras], cwd=ROOT, capture_output=True, text=True)


def test_requirements_are_those_of_the_base_and_of_the_extras_named() -> None:
    ended = requirements("train", "report")
    extras = PROJECT["optional-dependencies"]
    assert set(ended.stdout.splitlines()) == {*PROJECT["dependencies"], *extras["train"], *extras["report"]}
    assert set(requirements("gate").stdout.splitlines()) == set(PROJECT["dependencies"])


@pytest.mark.parametrize(("extra", "said"), [("torch", "no extra `torch`; there are "), ("all", "name those")])
def test_an_extra_that_cannot_be_meant_stops_the_build(extra: str, said: str) -> None:
    """Else the image would be built without it."""
    ended = requirements(extra)
    assert ended.returncode == 1
    assert said in ended.stderr


@pytest.mark.parametrize("name", DOCKERFILES)
def test_every_extra_that_an_image_installs_is_one(name: str) -> None:
    (script,) = re.findall(r"requirements\.py (.+?) >", TEXTS[name])
    (extras,) = re.findall(r'ARG EXTRAS="(.+)"', TEXTS[name]) if "$" in script else [script]
    assert requirements(*extras.split()).returncode == 0


def test_what_few_need_is_in_the_image_only_when_asked_for() -> None:
    """The image that runs pipelines is to stay below 2 GB."""
    (extras,) = re.findall(r'ARG EXTRAS="(.+)"', TEXTS["compresslab"])
    assert not {"hf", "timm", "inc"} & set(extras.split())
    assert {"hf", "timm", "inc"} <= set(PROJECT["optional-dependencies"])


def test_the_torch_of_the_image_is_the_torch_that_is_tested() -> None:
    """The Dockerfile names one build, constraints.txt a range that any build satisfies."""
    (torch,) = re.findall(r'ARG TORCH_VERSION="(.+)"', TEXTS["compresslab"])
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    (constraint,) = [Requirement(line) for line in lines if re.match(r"torch\W", line) and "pruning" not in line]
    assert torch.endswith("+cpu")
    assert constraint.specifier.contains(torch)


@pytest.mark.parametrize("name", DOCKERFILES)
def test_what_an_image_copies_is_let_into_the_build(name: str) -> None:
    """.dockerignore keeps out all that it does not name."""
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = [line.removeprefix("!") for line in ignore if line.startswith("!")]
    copied = [
        word
        for line in re.findall(r"^COPY (?!--from)(.+)$", TEXTS[name], re.MULTILINE)
        for word in shlex.split(line)[:-1]
    ]
    assert copied
    for file in copied:
        assert any(fnmatch(file, pattern) for pattern in allowed), file
        assert (ROOT / file).exists()


@pytest.mark.parametrize("name", DOCKERFILES)
def test_an_image_is_run_by_nobody_special(name: str) -> None:
    text = TEXTS[name]
    last = text[text.rindex("\nFROM ") :]
    assert re.findall(r"^USER (.+)$", last, re.MULTILINE) == ["1000:1000"]
    assert bool(re.findall(r"^HEALTHCHECK", last, re.MULTILINE)) == ("serve" in name)
    assert set(re.findall(r"org\.opencontainers\.image\.(\w+)=", last)) == {"title", "description", "licenses"}


def test_the_documentation_has_what_was_found() -> None:
    """`python -m benchmarks.images --table` prints what belongs there."""
    document = load("images")
    assert markdown(document) in (ROOT / "docs" / "docker.md").read_text(encoding="utf-8")
    assert tuple(check["name"] for check in document["checks"]) == CHECKS
    assert all(one["kept"] for one in [*document["checks"], *document["images"]])


# -- compose.yaml ------------------------------------------------------------------------------------------------------


def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text(encoding="utf-8"))["services"]
    return found


def test_each_service_waits_for_the_one_before() -> None:
    conditions = {
        name: {other: how["condition"] for other, how in service.get("depends_on", {}).items()}
        for name, service in services().items()
    }
    ended = "service_completed_successfully"
    assert conditions == {"run": {}, "gate": {"run": ended}, "serve": {"gate": ended}}


def test_services_are_closed() -> None:
    for name, service in services().items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["tmpfs"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "user" in service, name
        # Only what writes results may write.
        assert [volume.endswith(":ro") for volume in service["volumes"]] == [name in ("gate", "serve")], name
        assert ("network_mode" in service) == (name != "serve"), name


def test_services_are_built_from_files_that_there_are() -> None:
    for service in services().values():
        build = service.get("build")
        if build is not None:
            assert DOCKERFILES[service["image"]] == build["dockerfile"]
            assert (ROOT / "docker" / build["context"]).resolve() == ROOT


@pytest.mark.parametrize("name", ["run", "gate"])
def test_commands_are_those_that_there_are(name: str) -> None:
    words = [re.sub(r"\$\{\w+:-(.+?)\}", r"\1", word) for word in services()[name]["command"]]
    command = typer.main.get_command(app).commands[words[0]]  # type: ignore[attr-defined]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known
    assert all((ROOT / word).is_file() for word in words if word.endswith(".yaml"))
