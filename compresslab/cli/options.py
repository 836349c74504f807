"""Options that several commands have."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT_STORE = Path("runs/.store")


class Log(StrEnum):
    """How a command tells what it does."""

    text = "text"
    json = "json"


@dataclass
class State:
    """What is known of one invocation outside its command."""

    debug: bool = False
    log: Log = Log.text


def _keep_debug(context: typer.Context, debug: bool) -> bool:
    if debug and isinstance(context.obj, State):
        context.obj.debug = True
    return debug


Debug = Annotated[bool, typer.Option("--debug", callback=_keep_debug, help="Show the traceback of an error.")]


def _keep_log(context: typer.Context, log: Log) -> Log:
    if isinstance(context.obj, State):
        context.obj.log = log
    return log


LogFormat = Annotated[
    Log,
    typer.Option(
        "--log", envvar="COMPRESSLAB_LOG", callback=_keep_log, help="For people, or a JSON object a line for machines."
    ),
]

StoreFolder = Annotated[
    Path, typer.Option("--store", metavar="DIR", help="The cache.", show_default=str(DEFAULT_STORE))
]


ColumnNames = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        metavar="WHAT=NAME",
        help="What a column of --data is called: text, label or target, query, document or score; repeatable.",
    ),
]


def columns(given: Sequence[str]) -> dict[str, str]:
    """`["text=body"]` -> `{"text": "body"}`.

    Raises:
        typer.BadParameter: One is not two names with `=` between.
    """
    found = {}
    for text in given:
        what, _, name = text.partition("=")
        if not what or not name:
            raise typer.BadParameter(f"must be WHAT=NAME, such as text=body, but got {text!r}", param_hint="--column")
        found[what] = name
    return found


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
