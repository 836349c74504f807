"""A Measurement as plain JSON data and back, exactly."""

from __future__ import annotations

import json
from typing import Any

from pydantic import TypeAdapter, ValidationError

from compresslab.errors import ArtifactError
from compresslab.measure.measurement import Measurement

_ADAPTER = TypeAdapter(Measurement)


def to_json(measurement: Measurement) -> dict[str, Any]:
    """Plain data for `json.dumps`; `from_json` gives an equal Measurement back."""
    plain: dict[str, Any] = _ADAPTER.dump_python(measurement, mode="json")
    return plain


def from_json(plain: dict[str, Any]) -> Measurement:
    """The Measurement that `to_json` wrote.

    Raises:
        ArtifactError: `plain` is something else, or was written by another version.
    """
    try:
        return _ADAPTER.validate_json(json.dumps(plain), strict=True)
    except ValidationError as error:
        found = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}" for problem in error.errors()
        )
        raise ArtifactError(f"not a measurement that this version reads: {found}; measure the model again") from error
