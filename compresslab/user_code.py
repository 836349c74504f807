"""Code of the user's own, named in a pipeline as `module:function`: found, imported, called and digested.

It runs only because the pipeline names it. A file beside the pipeline comes before an installed module.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, ValidationInfo

from compresslab.digest import digest_file, digest_of
from compresslab.errors import BadInput, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import ModuleType

# Whatever a mistake in the user's own code raises; interrupts, full memory and our own errors pass through.
_MISTAKES = (
    ImportError, SyntaxError, NameError, AttributeError, TypeError, ValueError, LookupError, ArithmeticError,
    AssertionError, OSError, RuntimeError,
)  # fmt: skip


def beside_the_file(value: str, info: ValidationInfo) -> str:
    """The reference, of a file beside the pipeline where there is one.

    Raises:
        ValueError: It names no module and function.
    """
    module, _, function = value.rpartition(":")
    if not module or not function.isidentifier():
        raise ValueError(f"`module:function` or `path/to/file.py:function` must be given, but got `{value}`")
    base = (info.context or {}).get("base")
    if base is None:
        return value
    file = Path(base, module) if module.endswith(".py") else _module_file(module, Path(base))
    return value if file is None else f"{file}:{function}"


CodeReference = Annotated[str, AfterValidator(beside_the_file)]
"""`module:function` or `path/to/file.py:function`. Validated with the pipeline's folder as `base` in the context, it
becomes the absolute path of the file where that is beside the pipeline."""


def resolve(reference: str) -> Callable[..., Any]:
    """Imports the module and returns the function; a module is looked for in the working directory first.

    Raises:
        BadInput: There is no such file, module or function, or importing it failed.
    """
    name = reference.rpartition(":")[2]
    file = _locate(reference)
    module = _import(file)
    function = getattr(module, name, None)
    if function is None:
        names = [key for key, value in vars(module).items() if callable(value)]
        raise BadInput(f"{reference}: {file} has no function `{name}`{did_you_mean(name, names)}")
    if not callable(function):
        raise BadInput(f"{reference}: `{name}` in {file} is {type(function).__name__}, not a function")
    return function  # type: ignore[no-any-return]


def call(reference: str, arguments: Mapping[str, Any]) -> Any:
    """Resolves the function and calls it with these keyword arguments.

    Raises:
        BadInput: It cannot be resolved, does not take these arguments, or fails.
    """
    function = resolve(reference)
    try:
        inspect.signature(function).bind(**arguments)
    except TypeError as error:
        given = ", ".join(f"`{name}`" for name in arguments) or "no arguments"
        raise BadInput(f"{reference}: cannot be called with {given}: {error}") from error
    try:
        return function(**arguments)
    except _MISTAKES as error:
        raise BadInput(f"{reference}: failed with {type(error).__name__}: {error}{_line_of(error)}") from error


def canonical_name(reference: str) -> str:
    """`package.module:function`, whichever way the module was named and wherever its file lies.

    Raises:
        BadInput: There is no such file or module.
    """
    _, module = _import_root(_locate(reference))
    return f"{module}:{reference.rpartition(':')[2]}"


def source_digest(reference: str) -> str:
    """SHA-256 of the module's source and of what it imports from its own folder, directly or not; runs none of it.

    Of an installed module, its file alone: the rest changes only with the version of the distribution.

    Raises:
        BadInput: There is no such file or module.
    """
    file = _locate(reference)
    root, _ = _import_root(file)
    files = {file} if _is_installed(file) else _with_imports(file, root)
    return digest_of({path.relative_to(root).as_posix(): digest_file(path) for path in files})


def _locate(reference: str) -> Path:
    module = reference.rpartition(":")[0]
    if module.endswith(".py"):
        file = Path(module)
        if not file.is_file():
            raise BadInput(f"{reference}: there is no file {file}")
        return file.resolve()
    beside = _module_file(module, Path.cwd())
    if beside is not None:
        return beside.resolve()
    importlib.invalidate_caches()
    try:
        spec = find_spec(module)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        raise BadInput(
            f"{reference}: there is no module `{module}` beside the pipeline, in {Path.cwd()}, or installed; "
            f"name the file, as in `path/to/{module.rpartition('.')[2]}.py:{reference.rpartition(':')[2]}`"
        )
    return Path(spec.origin).resolve()


def _module_file(module: str, folder: Path) -> Path | None:
    place = folder.joinpath(*module.split("."))
    candidates = (place.with_name(f"{place.name}.py"), place / "__init__.py")
    return next((file for file in candidates if file.is_file()), None)


def _import_root(file: Path) -> tuple[Path, str]:
    """The folder that must be on sys.path, and the dotted name under it: the one above the outermost package."""
    parts = [] if file.name == "__init__.py" else [file.stem]
    folder = file.parent
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    return folder, ".".join(parts)


def _import(file: Path) -> ModuleType:
    root, name = _import_root(file)
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(name)
    except _MISTAKES as error:
        raise BadInput(f"{file}: importing it failed with {type(error).__name__}: {error}{_line_of(error)}") from error
    if module.__file__ is None or Path(module.__file__).resolve() != file:
        raise BadInput(
            f"{file}: another module named `{name}` is loaded already, from {module.__file__}; rename the file"
        )
    return module


def _line_of(error: BaseException) -> str:
    """Where it was raised, when that is not already part of its message."""
    trace = error.__traceback__
    if trace is None or isinstance(error, SyntaxError):
        return ""
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f" ({trace.tb_frame.f_code.co_filename}:{trace.tb_lineno})"


def _is_installed(file: Path) -> bool:
    homes = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return any(file.is_relative_to(Path(home).resolve()) for home in homes)


def _with_imports(file: Path, root: Path) -> set[Path]:
    found: set[Path] = set()
    waiting = [file]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            continue  # the import itself tells what is wrong with it
        waiting.extend(imported for name in _imported_names(tree, path, root) for imported in _chain(name, root))
    return found


def _imported_names(tree: ast.AST, path: Path, root: Path) -> Iterator[str]:
    package = path.parent.relative_to(root).parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join((*above, *([node.module] if node.module else [])))
            yield from (f"{base}.{alias.name}" if base else alias.name for alias in node.names)


def _chain(name: str, root: Path) -> Iterator[Path]:
    """The files that importing `a.b.c` runs: those of a, a.b and a.b.c which are under `root`."""
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        file = _module_file(".".join(parts[:count]), root)
        if file is not None:
            yield file
