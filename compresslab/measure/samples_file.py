"""Raw samples in a file: every call of every process, compressed."""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import numpy as np

from compresslab.errors import ArtifactError
from compresslab.measure.samples import LatencySamples

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_KEY = re.compile(r"point(\d+)_model(\d+)_process(\d+)")


def write_samples(path: Path, recorded: Sequence[Sequence[LatencySamples]]) -> Path:
    """Writes what `bench.record` gave, as `point{i}_model{j}_process{k}`: int64 nanoseconds [rounds, calls]."""
    arrays = {
        f"point{point}_model{model}_process{process}": array
        for point, models in enumerate(recorded)
        for model, samples in enumerate(models)
        for process, array in enumerate(samples.processes)
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    return path


def read_samples(path: Path) -> tuple[tuple[LatencySamples, ...], ...]:
    """What `write_samples` wrote: for each point, the samples of each model.

    Raises:
        ArtifactError: The file is missing, damaged, or something else.
    """
    found: dict[int, dict[int, dict[int, np.ndarray]]] = {}
    try:
        # Opened here, as numpy leaves a file open that it finds damaged.
        with path.open("rb") as file:
            arrays = np.load(file, allow_pickle=False)
            for name in arrays.files:
                key = _KEY.fullmatch(name)
                if key is None:
                    raise ValueError(f"`{name}` is no recording")
                point, model, process = map(int, key.groups())
                found.setdefault(point, {}).setdefault(model, {})[process] = arrays[name]
    except (OSError, ValueError, EOFError, BadZipFile, zlib.error, AttributeError) as error:
        raise ArtifactError(f"{path}: not the raw samples of a benchmark ({error}); measure again") from error
    return tuple(
        tuple(
            LatencySamples(tuple(processes[number] for number in sorted(processes)))
            for _, processes in sorted(models.items())
        )
        for _, models in sorted(found.items())
    )
