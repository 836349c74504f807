"""A folder that appears whole: what was there before makes way only when the new one is complete."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from compresslab.errors import BadInput
from compresslab.measure.artifact import MANIFEST
from compresslab.store import storage_errors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def new_folder(folder: Path, *, sign: str = MANIFEST, what: str = "bundle") -> Iterator[Path]:
    """Gives an empty folder to fill, which takes the place of `folder` when the block ends without an error.

    Args:
        folder: Made, or replaced if it holds an earlier one of ours; nothing else is ever replaced.
        sign: The file, by its path inside the folder, that tells an earlier one of ours.
        what: What to call it in messages.

    Raises:
        BadInput: The folder is there and is neither empty nor ours.
        StoreError: The disk is full, or the folder may not be written.
    """
    if folder.exists() and not (folder / sign).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInput(
            f"{folder}: this is not an earlier {what}, so it is not replaced; choose another folder, or move it"
        )
    draft, former = (folder.with_name(f".{folder.name}.{state}") for state in ("new", "old"))
    with storage_errors(folder.parent):
        # What a crash left behind.
        for leftover in (draft, former):
            shutil.rmtree(leftover, ignore_errors=True)
        draft.mkdir(parents=True)
        try:
            yield draft
            if folder.exists():
                folder.replace(former)
            draft.replace(folder)
        finally:
            for leftover in (draft, former):
                shutil.rmtree(leftover, ignore_errors=True)
