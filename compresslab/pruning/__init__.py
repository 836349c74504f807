"""Structured pruning: what matters least is cut out for good, so that the network gets smaller and faster for real."""

from compresslab.pruning.allocate import Allocation, Block, Choice, Problem, allocate
from compresslab.pruning.attention import find_attention
from compresslab.pruning.clock import Clock, Table, Timing
from compresslab.pruning.costs import Costs
from compresslab.pruning.counting import sizes
from compresslab.pruning.cutting import cut
from compresslab.pruning.damage import Damage
from compresslab.pruning.depth import block_damage, find_blocks, without
from compresslab.pruning.evidence import Evidence, gather
from compresslab.pruning.finding import find_groups
from compresslab.pruning.groups import Group, Groups, Member
from compresslab.pruning.importance import CRITERIA, Criterion, judge, own
from compresslab.pruning.importance import Name as ImportanceName
from compresslab.pruning.latency_table import LatencyTable
from compresslab.pruning.layer_trace import layers_of
from compresslab.pruning.one_layer import Precision
from compresslab.pruning.reconstruct import reconstruct
from compresslab.pruning.sensitivity import Sensitivity, group_sensitivity, sensitivity, widths_by_sensitivity
from compresslab.pruning.shares import Scope, Target, best_units, schedule, widths
from compresslab.pruning.verdict import Verdict, verdict

__all__ = [
    "CRITERIA",
    "Allocation",
    "Block",
    "Choice",
    "Clock",
    "Costs",
    "Criterion",
    "Damage",
    "Evidence",
    "Group",
    "Groups",
    "ImportanceName",
    "LatencyTable",
    "Member",
    "Precision",
    "Problem",
    "Scope",
    "Sensitivity",
    "Table",
    "Target",
    "Timing",
    "Verdict",
    "allocate",
    "best_units",
    "block_damage",
    "cut",
    "find_attention",
    "find_blocks",
    "find_groups",
    "gather",
    "group_sensitivity",
    "judge",
    "layers_of",
    "own",
    "reconstruct",
    "schedule",
    "sensitivity",
    "sizes",
    "verdict",
    "widths",
    "widths_by_sensitivity",
    "without",
]
