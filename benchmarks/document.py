"""The one JSON document that every benchmark prints as its last line and keeps in benchmarks/results/."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from compresslab.digest import library_versions
from compresslab.measure.machine import fingerprint
from compresslab.tasks import Task
from compresslab.tasks.towers_task import TowersTask

RESULTS = Path(__file__).parent / "results"
_LIBRARIES = ("torch", "torch-pruning", "onnx", "onnxruntime", "numpy")


def options(module_doc: str | None, arguments: Sequence[str] | None, *more: str) -> argparse.Namespace:
    """What every benchmark may be asked for, `--quick` and `--table`, and flags of its own."""
    parser = argparse.ArgumentParser(description=(module_doc or "").partition("\n")[0])
    for flag in ("--quick", "--table", *more):
        parser.add_argument(flag, action="store_true")
    return parser.parse_args(arguments)


def publish(name: str, seconds: float, body: Mapping[str, Any], *, quick: bool) -> dict[str, Any]:
    """Writes results/NAME.json (NAME-quick.json for a quick run, which proves nothing) and prints it on one line."""
    document = {
        "benchmark": name,
        "quick": quick,
        "seconds": round(seconds, 1),
        "machine": fingerprint(),
        "versions": library_versions(*_LIBRARIES),
        **body,
    }
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{name}{'-quick' if quick else ''}.json"
    file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(document))
    return document


def of_one_network(task: Task | TowersTask) -> Task:
    """The task, which is not for two towers."""
    assert isinstance(task, Task), "its pipeline names one network"
    return task


def load(name: str) -> dict[str, Any]:
    """The document of the last full run."""
    document: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return document
