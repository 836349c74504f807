"""What cache keys are made of: too coarse, and a stale result is served; too fine, and everything is made again."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from compresslab import digest
from compresslab.digest import code_digest, digest_file, digest_of, library_versions

SOURCES = {
    "stage": "from house.helper import help_out\nimport numpy\n",
    "helper": "from house import deep\ndef help_out():\n    import house.lazy\n",
    "deep/__init__": "VALUE = 1\n",
    "lazy": "LAZY = 1\n",
    "typed": "TYPED = 1\n",
    "apart": "APART = 1\n",
}


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """A package `house` in compresslab's place, whose sources a test may edit."""
    folder = tmp_path / "house"

    def written(**sources: str) -> None:
        for name, text in sources.items():
            path = folder / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        importlib.invalidate_caches()
        code_digest.cache_clear()  # as in another process

    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(digest, "PACKAGE", "house")
    written(__init__="", **SOURCES)
    yield written
    for name in [name for name in importlib.sys.modules if name.partition(".")[0] == "house"]:
        del importlib.sys.modules[name]
    code_digest.cache_clear()


@pytest.mark.parametrize("module", ["stage", "helper", "deep/__init__", "lazy"])
def test_code_that_a_module_reaches_changes_its_digest(write, module):
    """Also what is imported by what it imports, a package's own file, and an import inside a function."""
    before = code_digest("house.stage")
    write(**{module: SOURCES[module] + "CHANGED = True\n"})
    assert code_digest("house.stage") != before


@pytest.mark.parametrize("module", ["apart", "typed"])
def test_other_code_does_not(write, module):
    """Nor does what only a type checker sees."""
    write(stage=SOURCES["stage"] + "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import house.typed\n")
    before = code_digest("house.stage")
    write(**{module: "CHANGED = True\n"})
    assert code_digest("house.stage") == before


def test_a_name_that_is_no_module_is_part_of_the_module_it_comes_from(write):
    """`from house.helper import help_out`: there is no file house/helper/help_out.py."""
    before = code_digest("house.stage")
    write(helper="def help_out():\n    return 2\n")
    assert code_digest("house.stage") != before


def test_circular_imports_end(write):
    write(helper="def help_out():\n    import house.stage\n")
    assert code_digest("house.stage") == code_digest("house.stage")


def test_user_code_and_missing_modules_are_left_to_others(write):
    """A stage of the user's own lies outside the package; its digest is of the module that was named."""
    assert code_digest("json") != code_digest("house.apart")
    assert code_digest("house.nowhere") == code_digest()


def test_our_own_package_is_followed():
    """A stage's key holds the training loop, the pruner and the loss, and not the command line."""
    reached: list[str] = []
    waiting = ["compresslab.stages.prune"]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.append(name)
            waiting.extend(digest._imports(Path(importlib.import_module(name).__file__).read_text()))
    assert {"compresslab.training", "compresslab.pruning.cutting", "compresslab.losses.logits"} <= set(reached)
    assert not [name for name in reached if name.startswith(("compresslab.cli", "compresslab.runner"))]


def test_plain_data_has_one_digest_whatever_the_order_of_its_keys():
    assert digest_of({"a": 1, "b": [1.5, None, "ä"]}) == digest_of({"b": [1.5, None, "ä"], "a": 1})
    assert digest_of({"a": 1}) != digest_of({"a": 1.5})
    assert digest_of([1, 2]) != digest_of([2, 1])
    assert digest_of({"a": 1}) == sha256(b'{"a":1}').hexdigest()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_has_no_digest(value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest_of([value])


def test_files(tmp_path):
    (tmp_path / "x").write_bytes(b"weights")
    assert digest_file(tmp_path / "x") == sha256(b"weights").hexdigest()


def test_versions_name_what_was_asked():
    versions = library_versions("numpy", "pydantic")
    assert list(versions) == ["numpy", "pydantic"]
    assert all(version[0].isdigit() for version in versions.values())
