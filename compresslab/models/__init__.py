"""Networks: what a pipeline may ask for, and how they are kept on disk. Importing this needs no torch."""

from compresslab.models.residual import Residual
from compresslab.models.spec import ModelSpec

__all__ = ["ModelSpec", "Residual"]
