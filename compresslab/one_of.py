"""Settings in which exactly one of several keys says where something comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import BaseModel


def the_one(settings: BaseModel, names: Sequence[str]) -> str:
    """The name among `names` that was given.

    Raises:
        ValueError: None was given, or several.
    """
    given = [name for name in names if getattr(settings, name) is not None]
    if len(given) == 1:
        return given[0]
    wanted = f"exactly one of {', '.join(f'`{name}`' for name in names)} must be given" if len(names) > 1 else (
        f"`{names[0]}` must be given"
    )  # fmt: skip
    raise ValueError(f"{wanted}, but got {' and '.join(f'`{name}`' for name in given) or 'none'}")
