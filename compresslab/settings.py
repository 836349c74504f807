"""The base of every setting: frozen, strict, nothing extra, so that YAML and Python get the same checks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo


class Settings(BaseModel):
    """A frozen pydantic model that refuses unknown keys, silent coercion, NaN and infinity."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


def _beside_the_file(value: str, info: ValidationInfo) -> str:
    """A relative path in a YAML file is relative to that file; in Python, to the working directory."""
    base = (info.context or {}).get("base")
    return value if base is None else str(Path(base, value))


FilePath = Annotated[str, AfterValidator(_beside_the_file)]
"""A path as text. `model_validate(..., context={"base": folder})` makes it absolute."""

Ints = Annotated[tuple[int, ...], Field(strict=False)]
"""Whole numbers; a list is as good as a tuple."""

Floats = Annotated[tuple[float, ...], Field(strict=False)]
"""Numbers; a list is as good as a tuple."""

FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]*$")]
"""A name inside an artifact's folder: never a path that leads out of it."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""Of a file."""
