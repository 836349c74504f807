"""Distillation losses: small functions of student and teacher outputs."""

from compresslab.losses.logits import kd

__all__ = ["kd"]
