"""The bridge from torch to what ships: a model becomes an ONNX artifact with a manifest, checked on real inputs."""

from __future__ import annotations

from compresslab.export.exporting import export

__all__ = ["export"]
