"""compresslab cache: what the store holds, and making room in it."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from compresslab.cli.options import DEFAULT_STORE, StoreFolder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from compresslab.store import Entry

app = typer.Typer(no_args_is_help=True, help="The cache: what it holds, and making room in it.")

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_FACTORS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_PARTIAL = {"scratch": "not finished", "temporary": "left by a crash"}


def _age(text: str) -> timedelta:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([mhdw])", text.strip())
    if found is None:
        raise typer.BadParameter(f"must be a number and one of m, h, d, w, such as 30d, but got {text!r}")
    return timedelta(**{_UNITS[found[2]]: float(found[1])})


def _size(text: str) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?B)?", text.strip().upper())
    if found is None:
        raise typer.BadParameter(f"must be a number of bytes, or with kB, MB, GB or TB, such as 2GB, but got {text!r}")
    return int(float(found[1]) * _FACTORS[found[2] or ""])


@app.command("ls")
def ls(store: StoreFolder = DEFAULT_STORE) -> None:
    """List the entries, the least recently used first."""
    from compresslab.store import Store

    cache = Store(store)
    _show([*cache.entries(), *cache.leftovers()], store)


@app.command("prune")
def prune(
    store: StoreFolder = DEFAULT_STORE,
    older_than: Annotated[
        timedelta | None,
        typer.Option(parser=_age, metavar="AGE", help="Remove what was not used for so long, as 30d (m, h, d, w)."),
    ] = None,
    max_size: Annotated[
        int | None,
        typer.Option(parser=_size, metavar="SIZE", help="Then remove the least recently used until so much is left."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would be removed; remove nothing.")] = False,
) -> None:
    """Remove entries; without a limit, only what crashed runs have left. A run makes again what it misses."""
    from compresslab.store import Store

    removed = Store(store).prune(older_than, max_size, dry_run)
    _show(removed, store, "would be removed from" if dry_run else "removed from")


def _show(entries: Sequence[Entry], store: Path, told: str = "in") -> None:
    from compresslab.cli.tables import show_table
    from compresslab.report.figures import kilobytes
    from compresslab.report.table import Column, Row, Table

    columns = (
        Column("kind", essential=True),
        Column("key", essential=True),
        Column("kB", True, True),
        Column("made"),
        Column("last used", essential=True),
        Column("", essential=True),
    )
    rows = tuple(
        Row(
            entry.key,
            (
                entry.kind,
                entry.key[:12],
                kilobytes(entry.bytes),
                f"{entry.created.astimezone():%Y-%m-%d %H:%M}",
                f"{entry.last_used.astimezone():%Y-%m-%d %H:%M}",
                _PARTIAL.get(entry.state, ""),
            ),
        )
        for entry in entries
    )
    if rows:
        show_table(Table("", columns, rows))
    count = f"{len(rows)} {'entry' if len(rows) == 1 else 'entries'}"
    typer.echo(f"{count}, {kilobytes(sum(entry.bytes for entry in entries))} kB, {told} {store}")
