"""From a bundle to a server: Triton, MLServer and plain ONNX, all by the Open Inference Protocol. Needs no torch."""

from __future__ import annotations

from compresslab.serving.exporting import Exported, export_bundle
from compresslab.serving.plan import ServingPlan, plan

__all__ = ["Exported", "ServingPlan", "export_bundle", "plan"]
