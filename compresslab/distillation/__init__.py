"""Training with a teacher: which losses, on which samples, and whether it helped."""

from compresslab.distillation.learning import control_of, learn
from compresslab.distillation.recipe import Recipe
from compresslab.distillation.scoring import validation_score

__all__ = ["Recipe", "control_of", "learn", "validation_score"]
