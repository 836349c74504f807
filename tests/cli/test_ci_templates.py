"""The templates under docs/ci: that they parse, call what there is, and treat exit codes as they say."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer

from compresslab.cli.app import app
from compresslab.strict_yaml import read

DOCS = Path(__file__).parents[2] / "docs" / "ci"


def workflow() -> Any:
    return read(DOCS / "latency-gate.yml").data


def gitlab() -> Any:
    return read(DOCS / "gitlab-gate.yml").data


def github_script() -> str:
    (script,) = (step["run"] for step in workflow()["jobs"]["gate"]["steps"] if step.get("name") == "Gate")
    return script


@pytest.mark.parametrize("script", [github_script(), "\n".join(gitlab()["latency-gate"]["script"])])
def test_the_command_is_one_that_there_is(script: str) -> None:
    joined = script.replace("\\\n", " ")
    (line,) = (line for line in joined.splitlines() if line.strip().startswith("compresslab"))
    words = shlex.split(line.partition("||")[0])
    gate = typer.main.get_command(app).commands["gate"]  # type: ignore[attr-defined]
    known = {name for parameter in gate.params for name in parameter.opts}
    assert words[:2] == ["compresslab", "gate"]
    assert {word for word in words if word.startswith("--")} <= known
    assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (1, 1), (2, 2), (3, 0)])
def test_the_workflow_stops_what_is_over_and_lets_the_inconclusive_through(
    tmp_path: Path, code: int, expected: int
) -> None:
    """As GitHub runs it: bash that ends at the first error."""
    command = tmp_path / "compresslab"
    command.write_text(f"#!/bin/sh\nexit {code}\n")
    command.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "MODEL": "m", "BUDGET": "b", "GITHUB_STEP_SUMMARY": "s"}
    ended = subprocess.run(["bash", "-e", "-c", github_script()], env=environment)
    assert ended.returncode == expected


def test_the_workflow_has_what_github_needs() -> None:
    plain = workflow()
    assert set(plain) == {"name", "on", "permissions", "concurrency", "jobs"}
    assert plain["permissions"] == {"contents": "read"}
    job = plain["jobs"]["gate"]
    assert job["runs-on"]
    assert job["timeout-minutes"] > 1
    for step in job["steps"]:
        assert ("uses" in step) != ("run" in step)
        assert "uses" not in step or re.fullmatch(r"[\w.-]+/[\w.-]+@v\d+", step["uses"])
    (baseline,) = (step for step in job["steps"] if step.get("with", {}).get("path") == "baseline")
    assert baseline["with"]["ref"] == "${{ github.event.pull_request.base.sha }}"
    assert [step.get("if") for step in job["steps"]][-1] == "always()"


def test_the_gitlab_job_has_what_gitlab_needs() -> None:
    job = gitlab()["latency-gate"]
    assert set(job) == {"stage", "image", "rules", "variables", "script", "allow_failure", "artifacts"}
    assert job["allow_failure"] == {"exit_codes": [3]}
    assert job["artifacts"]["reports"]["junit"] == "gate/junit.xml"
    assert all(isinstance(line, str) for line in job["script"])
