"""Networks: what a pipeline may ask for, and how they are kept on disk. Importing this needs no torch."""

from compresslab.models.mlp import Mlp
from compresslab.models.residual import Residual
from compresslab.models.signature import Signature
from compresslab.models.spec import ModelSpec

__all__ = ["Mlp", "ModelSpec", "Residual", "Signature"]
