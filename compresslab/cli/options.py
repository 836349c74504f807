"""Options that several commands have."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT_STORE = Path("runs/.store")


@dataclass
class State:
    """What is known of one invocation outside its command."""

    debug: bool = False


def _keep_debug(context: typer.Context, debug: bool) -> bool:
    if debug and isinstance(context.obj, State):
        context.obj.debug = True
    return debug


Debug = Annotated[bool, typer.Option("--debug", callback=_keep_debug, help="Show the traceback of an error.")]

StoreFolder = Annotated[
    Path, typer.Option("--store", metavar="DIR", help="The cache.", show_default=str(DEFAULT_STORE))
]


def sizes(given: Sequence[str]) -> dict[str, int]:
    """`["sequence=128"]` -> `{"sequence": 128}`.

    Raises:
        typer.BadParameter: One is not a name, `=` and a positive whole number.
    """
    found = {}
    for text in given:
        name, _, size = text.partition("=")
        if not name or not size.isdecimal() or int(size) < 1:
            raise typer.BadParameter(f"must be NAME=SIZE, such as sequence=128, but got {text!r}", param_hint="--dim")
        found[name] = int(size)
    return found
