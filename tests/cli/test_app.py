"""How the process ends, and what it takes to say `--help`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from types import ModuleType

import pytest

from compresslab import errors

from .conftest import Ended

HEAVY = ("torch", "onnx", "onnxruntime", "scipy", "sklearn", "numpy", "PIL", "yaml", "compresslab.settings")
Command = Callable[..., Ended]


@pytest.mark.parametrize(
    "arguments", [["--help"], ["run", "--help"], ["cache", "--help"], ["cache", "prune", "--help"], ["--version"]]
)
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    """What makes `--help` come at once: torch alone takes seconds to import, a module of Settings a tenth."""
    code = f"""
import sys
from compresslab.cli.app import invoke
code = invoke({arguments!r})
print("loaded:", [name for name in {HEAVY!r} if name in sys.modules], code)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.endswith("loaded: [] 0\n")


def test_python_m_is_the_command() -> None:
    ended = subprocess.run([sys.executable, "-m", "compresslab", "--version"], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (0, "compresslab 0.1.0\n")
    ended = subprocess.run([sys.executable, "-m", "compresslab", "run"], capture_output=True, text=True)
    assert ended.returncode == 2
    assert "Missing argument 'PIPELINE.yaml'" in ended.stderr


def test_a_stream_that_cannot_show_a_symbol_gets_a_question_mark() -> None:
    code = "import sys, compresslab.cli.app as a; a.invoke = lambda _: print('\u2605'); a.main([])"
    environment = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "?\n", "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("rnu",), "Did you mean 'run'?"),
        (("run", "x.yaml", "--nothing"), "No such option"),
        (("run", "x.yaml", "--workers", "0"), "Invalid value for '--workers'"),
        (("cache", "prune", "--older-than", "soon"), "such as 30d, but got 'soon'"),
        (("run", "nowhere.yaml"), "nowhere.yaml: cannot be read: No such file or directory"),
        (("report", "nowhere"), "nowhere"),
    ],
)
def test_bad_input_ends_with_2_and_is_told_on_stderr(command: Command, arguments: tuple[str, ...], said: str) -> None:
    ended = command(*arguments)
    assert ended.code == 2
    assert said in " ".join(ended.err.replace("│", "").split())
    assert ended.out == ""
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.CompresslabError("broken"), 4),
        (errors.DataError("broken"), 2),
        (errors.StageFailed("broken"), 4),
        (errors.Diverged("broken"), 4),
        (errors.StoreError("broken"), 4),
    ],
)
def test_each_error_ends_with_its_code_and_no_traceback(
    command: Command, pipeline_file: str, fake_runner: ModuleType, error: Exception, code: int
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    fake_runner.run = fail
    ended = command("run", pipeline_file)
    assert (ended.code, ended.err) == (code, "error: broken\n")
    for arguments in (("--debug", "run", pipeline_file), ("run", pipeline_file, "--debug")):
        ended = command(*arguments)
        assert ended.code == code
        assert "Traceback" in ended.err


def test_what_nobody_expected_shows_its_traceback_and_does_not_look_like_over_budget(
    command: Command, pipeline_file: str, fake_runner: ModuleType
) -> None:
    fake_runner.run = lambda *_, **__: 1 / 0
    ended = command("run", pipeline_file)
    assert ended.code == 4
    assert "ZeroDivisionError: division by zero" in ended.err


def test_a_configuration_error_begins_with_its_file_and_line(command: Command, pipeline_file: str) -> None:
    ended = command("run", pipeline_file, "--set", "stages.prune.ratio=1.4", "--set", "seed=x")
    assert ended.code == 2
    assert ended.err == (
        "--set stages.prune.ratio=1.4: stages[0].prune: `0 < ratio < 1` must hold, but got 1.4\n"
        "--set seed=x: `seed` must be a whole number, but got 'x' (text)\n"
    )


def test_the_end_of_the_process_does_not_search_for_garbage() -> None:
    """With torch loaded that takes more than a second of computing, of the ten that a container has after SIGTERM."""
    code = """
import atexit, gc
from compresslab.cli import main
atexit.register(lambda: print("frozen:", gc.get_freeze_count() > 0))
main(["--version"])
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "compresslab 0.1.0\nfrozen: True\n", "")
