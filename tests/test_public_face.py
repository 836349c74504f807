"""The public face: every name is there, says where it is from, and costs nothing before it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import compresslab


@pytest.mark.parametrize("name", compresslab.__all__)
def test_every_exported_name_resolves(name: str) -> None:
    value = getattr(compresslab, name)
    assert value.__name__ == name
    assert value.__module__.startswith("compresslab.")


def test_the_names_are_sorted_unique_and_listed() -> None:
    assert len(set(compresslab.__all__)) == len(compresslab.__all__)
    assert set(compresslab.__all__) <= set(dir(compresslab))


def test_what_the_documentation_uses_is_there() -> None:
    from compresslab import (  # noqa: F401
        BenchPoint,
        BenchSettings,
        Budget,
        Distill,
        Pipeline,
        Prune,
        Quantize,
        TaskSpec,
        Train,
        load_artifact,
        load_pipeline,
        run,
    )


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="module `compresslab` has no `Distil`"):
        compresslab.Distil  # noqa: B018


def test_importing_it_and_its_errors_loads_nothing_heavy() -> None:
    code = (
        "import sys, compresslab; compresslab.ConfigError; compresslab.__version__;"
        "print([name for name in ('torch', 'onnx', 'numpy', 'pydantic') if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out == "[]\n"


def test_type_checkers_see_the_same_names() -> None:
    """The lazy table and the imports that only type checkers read are two lists; they must not part."""
    import ast
    from pathlib import Path

    tree = ast.parse(Path(compresslab.__file__).read_text())
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    typed = {
        (node.module, alias.name) for node in guarded.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert typed == {(module, name) for name, module in compresslab._HOME_OF.items()}
    assert sorted(compresslab._HOME_OF) == sorted(compresslab.__all__)
