"""What each module loads: the gate is installed without torch, and the measuring process must be small."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import compresslab.measure

PACKAGE = Path(compresslab.measure.__path__[0])
MODULES = sorted(f"compresslab.measure.{path.stem}" for path in PACKAGE.glob("*.py") if path.stem != "__init__")


def loaded_by(*modules: str) -> set[str]:
    """The top-level packages in a fresh interpreter that imported these."""
    code = f"import {', '.join(modules)}, sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    ended = subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parents[1], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return set(ended.stdout.split())


def test_measuring_loads_neither_torch_nor_onnx() -> None:
    loaded = loaded_by(*MODULES)
    assert {"numpy", "scipy", "sklearn", "onnxruntime"} <= loaded
    assert not {"torch", "torch_pruning", "accelerate", "transformers", "onnx", "onnxscript"} & loaded


def test_the_measuring_process_loads_numpy_and_onnxruntime_alone() -> None:
    """Whatever else it loads would be counted as the model's memory."""
    loaded = loaded_by("compresslab.measure.worker")
    assert {"numpy", "onnxruntime"} <= loaded
    assert not {"pydantic", "scipy", "sklearn", "PIL", "yaml", "rich", "typer"} & loaded


@pytest.mark.parametrize("module", ["bench", "budget", "artifact", "frontier", "measurement"])
def test_settings_load_without_the_libraries_that_measure(module: str) -> None:
    """The command line reads them to print its help, within half a second."""
    assert not {"scipy", "sklearn", "onnxruntime"} & loaded_by(f"compresslab.measure.{module}")
