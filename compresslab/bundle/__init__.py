"""What is handed to whoever deploys the model: its files, its manifest and its card. Needs no torch."""

from __future__ import annotations

from compresslab.bundle.bundle import write_bundle

__all__ = ["write_bundle"]
