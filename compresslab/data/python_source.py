"""A data set made by a function of the user's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compresslab.data.arrays import KEYS, Arrays, Source, labelled, source_from
from compresslab.errors import DataError
from compresslab.user_code import call


def load_python(reference: str) -> Source:
    """Calls `module:function` without arguments and checks what it returns.

    That may be a `Source`, an `Arrays` to carve all splits from, or a mapping with the names in `arrays.KEYS`.

    Raises:
        BadInput: The function cannot be found or fails.
        DataError: What it returns is not a data set.
    """
    found = call(reference, {})
    name = reference.rpartition(":")[2]
    if isinstance(found, Mapping):
        return source_from(reference, name, found)
    if isinstance(found, Arrays):
        return Source(name, _checked(reference, found))
    if isinstance(found, Source):
        parts = {split: _checked(f"{reference}: {split}", part) for split, part in found.parts.items()}
        return Source(found.name, parts["train"], parts.get("validation"), parts.get("test"))
    raise DataError(
        f"{reference}: returned {_described(found)}; return a mapping with `images` and `labels` (allowed: "
        f"{', '.join(KEYS)})"
    )


def _checked(where: str, arrays: Arrays) -> Arrays:
    return labelled(where, arrays.inputs, arrays.targets, tuple(arrays.labels))


def _described(value: Any) -> str:
    return f"a {type(value).__name__}" + (f" of {len(value)}" if isinstance(value, tuple | list) else "")
