"""Prints the dependencies in pyproject.toml, with those of the extras that are named, one requirement a line.

An image installs them before it copies the source, so that a change of the source does not install torch again.

    python requirements.py train report > requirements.txt
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path


def requirements(pyproject: Path, extras: list[str]) -> list[str]:
    """The base's requirements, then those of each extra; a requirement that is named twice is printed once."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    known = project["optional-dependencies"]
    unknown = [extra for extra in extras if extra not in known]
    if unknown:
        sys.exit(f"{pyproject}: no extra `{unknown[0]}`; there are {', '.join(known)}")
    found = [*project["dependencies"], *(name for extra in extras for name in known[extra])]
    # `all` names other extras of this project; an image names them itself.
    itself = [name for name in found if name.startswith(f"{project['name']}[")]
    if itself:
        sys.exit(f"{pyproject}: `{itself[0]}` stands for other extras; name those")
    return list(dict.fromkeys(found))


if __name__ == "__main__":
    print("\n".join(requirements(Path("pyproject.toml"), sys.argv[1:])))  # noqa: T201
