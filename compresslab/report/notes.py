"""What a run had to say, sorted: what stages found out about themselves, and all else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compresslab.report.headline import warnings

if TYPE_CHECKING:
    from compresslab.report.schema import Results


def stage_notes(results: Results) -> dict[str, list[str]]:
    """Notes that begin with the name of a stage of the run, such as `distill: `, without it, by stage."""
    stages = dict.fromkeys(stage for point in results["points"] for stage in point["lineage"])
    found: dict[str, list[str]] = {stage: [] for stage in stages}
    for note in results["notes"]:
        stage, _, told = note.partition(": ")
        if stage in found:
            found[stage].append(told)
    return {stage: told for stage, told in found.items() if told}


def other_notes(results: Results) -> list[str]:
    """The report's own warnings, and the notes that are of no stage."""
    stages = stage_notes(results)
    return [*warnings(results), *(note for note in results["notes"] if note.partition(": ")[0] not in stages)]
