"""How long work tells how far it is; the command line shows it, a test records it, a library user may ignore it."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Where long work tells how far it is. Implementations must be cheap: `advance` is called every batch."""

    def start(self, phase: str, total: int) -> None:
        """A phase of `total` steps begins (and ends the one before)."""

    def advance(self, steps: int = 1, **values: float) -> None:
        """`steps` more are done; `values` are figures to show, such as `loss`."""

    def note(self, message: str) -> None:
        """A decision or a warning that the user should read, and that the report keeps."""


class Silent:
    """A Progress that shows nothing and keeps the notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def start(self, phase: str, total: int) -> None:
        """Ignored."""

    def advance(self, steps: int = 1, **values: float) -> None:
        """Ignored."""

    def note(self, message: str) -> None:
        """Keeps the message in `notes`."""
        self.notes.append(message)


class Noting:
    """Passes progress on and keeps the notes for the report."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.notes: list[str] = []
        self.start = progress.start
        self.advance = progress.advance

    def note(self, message: str) -> None:
        """Keeps the message and passes it on."""
        self.notes.append(message)
        self._progress.note(message)
