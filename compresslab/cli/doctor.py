"""compresslab doctor: whether this machine can do the work, and what to know about its figures."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from compresslab.cli.options import DEFAULT_STORE, StoreFolder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# import name -> distribution
_MEASURE = {
    "numpy": "numpy", "onnxruntime": "onnxruntime", "pydantic": "pydantic", "yaml": "PyYAML", "typer": "typer",
    "rich": "rich", "scipy": "scipy", "sklearn": "scikit-learn", "PIL": "Pillow",
}  # fmt: skip
_COMPRESS = {
    "torch": "torch", "accelerate": "accelerate", "torch_pruning": "torch-pruning", "onnx": "onnx",
    "onnxscript": "onnxscript", "safetensors": "safetensors",
}  # fmt: skip
_OPTIONAL = {
    "datasets": "datasets", "transformers": "transformers", "timm": "timm", "altair": "altair",
    "vl_convert": "vl-convert-python",
}  # fmt: skip
_MISSING = 2


def doctor(store: StoreFolder = DEFAULT_STORE) -> None:
    """Check packages, processor, disk and data; ends with 2 if a package that is needed is missing."""
    complaints: list[str] = []
    _say("python", f"{platform.python_version()} ({sys.executable})")
    for group, needed in ((_MEASURE, True), (_COMPRESS, True), (_OPTIONAL, False)):
        for name, state, good in _packages(group):
            _say(name, state)
            if needed and not good:
                complaints.append(name)
    _machine()
    _say("free disk", _free(store))
    _say("fashion-mnist", _fashion_mnist(store))
    if complaints:
        typer.echo()
        typer.echo(f"missing: {', '.join(complaints)}; `pip install compresslab[all]` brings everything", err=True)
        raise typer.Exit(_MISSING)


def _packages(group: Mapping[str, str]) -> Iterator[tuple[str, str, bool]]:
    """Each distribution, its version or what is wrong with it, and whether it works."""
    from importlib import import_module
    from importlib.metadata import PackageNotFoundError, version

    for module, distribution in group.items():
        try:
            installed = version(distribution)
            import_module(module)
        except PackageNotFoundError:
            yield distribution, "not installed", False
        except (ImportError, OSError, RuntimeError) as error:  # torchvision beside another torch than its own
            yield distribution, f"is installed, but does not import: {error}", False
        else:
            yield distribution, installed, True


def _machine() -> None:
    try:
        from compresslab.measure.machine import SLOW_INT8, fast_int8, fingerprint

        machine = fingerprint()
    except ImportError:
        return  # onnxruntime is missing, which is told already
    isa = machine["isa"]
    known = [str(name) for name in isa] if isinstance(isa, list) else []
    _say("processor", f"{machine['cpu']}, {machine['cores']} cores")
    _say("instructions", ", ".join(known) or "none of those that matter here")
    fast = sorted(fast_int8(machine))
    if fast:
        _say("int8", f"fast, by {', '.join(fast)}: 8-bit integers are multiplied and added up in one instruction")
    else:
        _say("int8", f"slow: {SLOW_INT8}")


def _free(store: Path) -> str:
    existing = next(folder for folder in (store.absolute(), *store.absolute().parents) if folder.is_dir())
    writable = "" if os.access(existing, os.W_OK) else ", but it may not be written"
    return f"{shutil.disk_usage(existing).free / 1e9:.1f} GB at {store}{writable}"


def _fashion_mnist(store: Path) -> str:
    try:
        from compresslab.data.fashion_mnist import FOLDER, PACKAGE_FOLDER, VARIABLE, read_folder
        from compresslab.errors import DataError
    except ImportError:
        return "cannot be looked for: packages are missing"
    given = os.environ.get(VARIABLE)
    places = [Path(given) / FOLDER, Path(given)] if given else []
    for place in (*places, PACKAGE_FOLDER, store / "data" / FOLDER):
        if place.is_dir():
            try:
                read_folder(place)
            except DataError as error:
                return f"{place}: {error}"
            return f"found in {place}"
    return f"not here; a run fetches it (31 MB), or set ${VARIABLE} to the folder that has it"


def _say(name: str, state: str) -> None:
    typer.echo(f"{name:<15} {state}")
