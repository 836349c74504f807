"""SHA-256 of plain data, files and source code: what cache keys and manifests are made of."""

from __future__ import annotations

import ast
import json
from functools import cache
from hashlib import file_digest, sha256
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

PACKAGE = "compresslab"


def digest_of(plain: object) -> str:
    """SHA-256 of plain data as canonical JSON: sorted keys, no spaces, no NaN."""
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return sha256(text.encode()).hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


@cache
def code_digest(*modules: str) -> str:
    """SHA-256 of the source of these modules and of every compresslab module they import, directly or not.

    A cached result is valid only for the code that made it; following the imports means that nobody has to
    remember to raise a version number when a helper changes.
    """
    sources: dict[str, str] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in sources:
            continue
        spec = find_spec(name)
        if spec is None or spec.origin is None:
            continue
        source = Path(spec.origin).read_text(encoding="utf-8")
        sources[name] = sha256(source.encode()).hexdigest()
        waiting.extend(_imports(source))
    return digest_of(sources)


def _imports(source: str) -> set[str]:
    """The compresslab modules a source imports when it runs (type-only imports change no result)."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(source))
    return {name for name in found if name.split(".")[0] == PACKAGE and _is_module(name)}


def _is_module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # `package.module.function`: the parent is no package
        return False


def library_versions(*distributions: str) -> dict[str, str]:
    """The installed version of each distribution, by name."""
    return {name: version(name) for name in distributions}
