"""What is handed to whoever deploys the model: its files, its manifest and its card. Needs no torch."""

from __future__ import annotations

from compresslab.bundle.bundle import write_bundle
from compresslab.bundle.verifying import Verified, verify

__all__ = ["Verified", "verify", "write_bundle"]
