"""The stages a pipeline is made of. STAGES is the whole list: a new stage is one file and one line here."""

from compresslab.stages.distill import Distill
from compresslab.stages.prune import Prune
from compresslab.stages.quantize import Quantize
from compresslab.stages.train import Train

STAGES = {"train": Train, "distill": Distill, "prune": Prune, "quantize": Quantize}

__all__ = ["STAGES", "Distill", "Prune", "Quantize", "Train"]
