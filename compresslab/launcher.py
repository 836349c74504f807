"""What a launcher of several processes (`accelerate launch`, `torchrun`, `mpirun`) leaves in the environment."""

from __future__ import annotations

import os

# Of torchrun and accelerate, and then of the kinds of MPI that accelerate knows.
_SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
_RANKS = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")


def processes() -> int:
    """How many were started together; 1 without a launcher."""
    return _number(_SIZES, 1)


def helps() -> bool:
    """Whether this process only helps another to train: it writes no files and says nothing."""
    return processes() > 1 and _number(_RANKS, 0) > 0


def started_alone() -> bool:
    """Whether a launcher was asked for several processes and has started this one only.

    `accelerate launch --cpu --num_processes 2` does so where no MPI is named.
    """
    return "ACCELERATE_USE_CPU" in os.environ and "MASTER_ADDR" in os.environ and processes() == 1


def _number(names: tuple[str, ...], otherwise: int) -> int:
    return next((int(os.environ[name]) for name in names if name in os.environ), otherwise)
