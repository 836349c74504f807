"""Files that are whole or not there: a reader of a run directory never sees half a report."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from compresslab.store import storage_errors

if TYPE_CHECKING:
    from pathlib import Path


def write_whole(path: Path, content: str | bytes) -> Path:
    """Writes a file by one rename, making its folder if needed, and returns its path.

    Raises:
        StoreError: The disk is full, or the folder may not be written.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with storage_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            draft.write_bytes(content.encode() if isinstance(content, str) else content)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    return path
