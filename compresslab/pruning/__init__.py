"""Structured pruning: whole channels, through the dependency graph, so that the network gets smaller for real."""

from compresslab.pruning.channels import Importance, Scope, prune_channels
from compresslab.pruning.head import output_layers

__all__ = ["Importance", "Scope", "output_layers", "prune_channels"]
