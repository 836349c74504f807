"""The stages a pipeline is made of. STAGES is the whole list: a new stage is one file and one line here."""

from compresslab.stages.distill import Distill
from compresslab.stages.each_tower import EachTower, each_tower
from compresslab.stages.mutual import Mutual
from compresslab.stages.prune import Prune
from compresslab.stages.quantize import Quantize
from compresslab.stages.train import Train
from compresslab.stages.tuned import Tuned

STAGES = {"train": Train, "distill": Distill, "mutual": Mutual, "prune": Prune, "quantize": Quantize}

__all__ = ["STAGES", "Distill", "EachTower", "Mutual", "Prune", "Quantize", "Train", "Tuned", "each_tower"]
