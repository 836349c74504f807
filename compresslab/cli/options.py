"""Options that several commands have."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

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
