"""JSON files beside a model's weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from compresslab.errors import ModelError


def read_json(path: Path) -> Any:
    """What a file holds.

    Raises:
        ModelError: It is missing, damaged, or cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: is damaged, or cannot be read ({error}); copy it again") from error


def read_keys(path: Path) -> dict[str, Any]:
    """The same by key; nothing of a file that holds something else than an object.

    Raises:
        ModelError: As `read_json`.
    """
    plain = read_json(path)
    return plain if isinstance(plain, dict) else {}
